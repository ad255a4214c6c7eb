"""What training costs the network: bytes, how small they were made, and how long devices take to answer."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from edgefl.monitor.families.sample import counters, gauges
from edgefl.monitor.round import UpdateRow
from edgefl.monitor.status import Status


def families(status: Status) -> Iterable[Metric]:
    """Everything about messages."""
    moved = {
        (row.name, direction): float(size)
        for row in status.state.devices.values()
        for direction, size in (("up", row.bytes_up), ("down", row.bytes_down))
    }
    yield counters("fl_update_bytes", "Bytes of updates (up) and of global models (down).", ("device", "direction"), moved)
    last = next((row for row in reversed(status.state.rounds) if row.state == "finished"), None)
    sizes = {"up": float(last.bytes_up), "down": float(last.bytes_down)} if last else {}
    yield gauges("fl_last_round_bytes", "Bytes that the last round moved.", ("direction",), sizes)
    smaller = {way: last.ratio.get(way) for way in ("up", "down")} if last else {}
    yield gauges(
        "fl_compression_ratio", "How many times smaller than in float32 a message of the last round was.", ("direction",), smaller
    )
    updates = last.updates if last else {}
    whole = {name: _answered_s(update) for name, update in updates.items()}
    yield gauges(
        "fl_device_round_trip_seconds", "From the question to the device's answer, in the last round.", ("device",), whole
    )
    spent = {name: update.train_s for name, update in updates.items()}
    yield gauges("fl_device_train_seconds", "Time that the device trained in the last round.", ("device",), spent)
    moving = {name: update.transfer_s for name, update in updates.items()}
    yield gauges(
        "fl_device_transfer_seconds", "Time that the device's messages were on their way in the last round.", ("device",), moving
    )


def _answered_s(update: UpdateRow) -> float | None:
    if update.train_s is None or update.transfer_s is None:
        return None
    return (update.start_s or 0.0) + update.train_s + update.transfer_s
