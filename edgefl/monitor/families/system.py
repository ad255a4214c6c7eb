"""What the fleet is made of, whether it is there, and whether what says so can be believed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import get_args

from prometheus_client.core import Metric

from edgefl.monitor.device import Shown
from edgefl.monitor.families.sample import gauge, gauges
from edgefl.monitor.status import Status


def families(status: Status) -> Iterable[Metric]:
    """Everything about hosts and services."""
    yield from _devices(status)
    yield from _coordinator(status)


def _devices(status: Status) -> Iterable[Metric]:
    rows = status.state.devices.values()
    states = {state: float(sum(row.state == state for row in rows)) for state in get_args(Shown)}
    yield gauges("fl_devices", "Devices, by state.", ("state",), states)
    online = {row.name: float(bool(row.connected)) for row in rows if row.state != "removed"}
    yield gauges("fl_device_online", "Whether the device's heartbeats arrive.", ("device",), online)
    seen = {row.name: _unix(row.seen) for row in rows}
    yield gauges("fl_device_seen_timestamp_seconds", "When the device last gave a sign of life, in Unix time.", ("device",), seen)
    unfit = {row.name: float(bool(row.unfit)) for row in rows}
    yield gauges("fl_device_unfit", "Whether the last up left the device out.", ("device",), unfit)
    kinds = {(row.name, row.architecture, row.release): 1.0 for row in rows if row.architecture}
    yield gauges("fl_device_info", "What the device runs; always 1.", ("device", "architecture", "release"), kinds)
    cores = {row.name: row.cores for row in rows}
    yield gauges("fl_device_cores", "Cores that the device has.", ("device",), cores)
    busy = {row.name: row.cpu for row in rows}
    yield gauges("fl_device_cores_busy", "Cores that the device kept busy while it last trained.", ("device",), busy)
    memory = {row.name: row.memory_mb * 2.0**20 if row.memory_mb else None for row in rows}
    yield gauges("fl_device_memory_bytes", "Memory that the device has.", ("device",), memory)


def _coordinator(status: Status) -> Iterable[Metric]:
    yield gauge("fl_quorum_devices", "Devices that must answer for a round to count.", status.quorum)
    yield gauge("fl_superlink_reachable", "Whether the monitor reaches the SuperLink.", float(not status.superlink))
    yield gauge("fl_journal_verified", "Whether the journal's hash chain holds.", float(not status.broken_seq))
    yield gauge("fl_journal_last_seq", "Number of the journal's last event.", status.state.seq)
    written = _unix(status.state.at)
    yield gauge("fl_journal_last_event_timestamp_seconds", "When the last event was written, in Unix time.", written)


def _unix(at: datetime | None) -> float | None:
    return at.astimezone(UTC).timestamp() if at is not None else None
