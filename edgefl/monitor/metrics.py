"""The state as Prometheus metrics: a standing exporter that reads what the journal says, so a run never needs a port.

Names follow Prometheus' conventions (base units, `_total` for counters); labels take only the site's own names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgefl.monitor.round import STAGES
from edgefl.monitor.status import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("enrolled", "online", "offline", "training", "waiting", "suspect", "quarantined", "removed")


class FederationCollector(Collector):
    """Turns the current status into samples whenever Prometheus asks."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """Every metric of the federation."""
        status = self._status()
        yield from _training(status)
        yield from _rounds(status)
        yield from _devices(status)
        yield from _privacy(status)
        yield from _trust(status)
        yield from _service(status)


def exposition(status: Callable[[], Status]) -> bytes:
    """The text that a scrape gets."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FederationCollector(status))
    return generate_latest(registry)


def _training(status: Status) -> Iterable[Metric]:
    state = status.state
    updates = CounterMetricFamily(
        "fl_model_updates", "Updates that devices sent, by what became of them.", labels=["device", "result"]
    )
    for device in state.devices.values():
        updates.add_metric([device.name, "received"], device.updates)
        updates.add_metric([device.name, "rejected"], device.rejected)
        updates.add_metric([device.name, "missing"], device.dropped)
    yield updates
    evaluated = [row for row in state.rounds if row.state == "finished"]
    accuracy = GaugeMetricFamily("fl_training_accuracy", "Accuracy of the newest global model, from 0 to 1.")
    loss = GaugeMetricFamily("fl_training_loss", "Loss of the newest global model.")
    measured = [row for row in evaluated if row.accuracy is not None]
    if measured and measured[-1].accuracy is not None:
        accuracy.add_metric([], measured[-1].accuracy)
    lost = [row for row in evaluated if row.loss is not None]
    if lost and lost[-1].loss is not None:
        loss.add_metric([], lost[-1].loss)
    yield accuracy
    yield loss
    yield _plain("fl_run_active", "Whether a run is going on.", float(state.run is not None and state.run.status == "running"))
    yield _plain("fl_run_rounds", "Rounds that the current or last run has in all.", state.run.rounds if state.run else 0)
    yield _plain("fl_run_round", "Round that the current or last run is in.", state.rounds[-1].number if state.rounds else 0)


def _rounds(status: Status) -> Iterable[Metric]:
    totals = status.state.totals
    rounds = CounterMetricFamily("fl_rounds", "Rounds that ended, by how.", labels=["result"])
    rounds.add_metric(["finished"], totals.rounds)
    rounds.add_metric(["skipped"], totals.rounds_skipped)
    yield rounds
    spent = CounterMetricFamily("fl_round_stage_seconds", "Time that rounds spent, by stage.", labels=["stage"])
    last = GaugeMetricFamily("fl_last_round_stage_seconds", "Time that the last round spent, by stage.", labels=["stage"])
    done = [row for row in status.state.rounds if row.state == "finished"]
    for stage in STAGES:
        spent.add_metric([stage], totals.seconds.get(stage, 0.0))
        if done and stage in done[-1].seconds:
            last.add_metric([stage], done[-1].seconds[stage])
    yield spent
    yield last


def _devices(status: Status) -> Iterable[Metric]:
    states = GaugeMetricFamily("fl_devices", "Devices, by state.", labels=["state"])
    online = GaugeMetricFamily("fl_device_online", "Whether the device's heartbeats arrive.", labels=["device"])
    accuracy = GaugeMetricFamily("fl_device_accuracy", "Accuracy that the device measured last.", labels=["device"])
    loss = GaugeMetricFamily("fl_device_loss", "Loss that the device measured last.", labels=["device"])
    moved = CounterMetricFamily(
        "fl_update_bytes", "Bytes of updates (up) and of global models (down).", labels=["device", "direction"]
    )
    rows = status.state.devices.values()
    for state in _STATES:
        states.add_metric([state], sum(row.state == state for row in rows))
    for row in rows:
        online.add_metric([row.name], float(bool(row.connected)))
        if row.accuracy is not None:
            accuracy.add_metric([row.name], row.accuracy)
        if row.loss is not None:
            loss.add_metric([row.name], row.loss)
        moved.add_metric([row.name, "up"], row.bytes_up)
        moved.add_metric([row.name, "down"], row.bytes_down)
    yield from (states, online, accuracy, loss, moved)


def _privacy(status: Status) -> Iterable[Metric]:
    spent = GaugeMetricFamily("fl_privacy_epsilon_spent", "Epsilon that the device's ledger has spent.", labels=["device"])
    limit = GaugeMetricFamily("fl_privacy_epsilon_limit", "Most epsilon that the device will ever spend.", labels=["device"])
    for row in status.state.devices.values():
        spent.add_metric([row.name], row.epsilon.spent)
        if row.epsilon.limit is not None:
            limit.add_metric([row.name], row.epsilon.limit)
    yield from (spent, limit)
    if (models := status.state.models) is not None:
        yield _plain("fl_privacy_models_epsilon_spent", "Epsilon that the coordinator's ledger has spent.", models.spent)
        yield _plain("fl_privacy_models_epsilon_limit", "Most epsilon that the models may ever spend.", models.limit or 0.0)


def _trust(status: Status) -> Iterable[Metric]:
    flags = CounterMetricFamily("fl_flags", "Findings about updates, by rule.", labels=["rule"])
    for rule, number in sorted(status.state.totals.flags.items()):
        flags.add_metric([rule], number)
    by_device = CounterMetricFamily("fl_device_flags", "Findings about the device's updates.", labels=["device"])
    reputation = GaugeMetricFamily("fl_device_reputation", "Trust in the device, from 0 to 1.", labels=["device"])
    age = GaugeMetricFamily("fl_isolation_proof_age_seconds", "Time since the host was probed.", labels=["device"])
    holds = GaugeMetricFamily("fl_isolation_proven", "Whether the last probes found what they must.", labels=["device"])
    for row in status.state.devices.values():
        by_device.add_metric([row.name], row.flag_count)
        reputation.add_metric([row.name], row.reputation)
    rows = {row.name: row.isolation for row in status.state.devices.values()}
    for host, proof in {**status.state.proofs, **rows}.items():
        if proof is not None:
            age.add_metric([host], (status.now - proof.at).total_seconds())
            holds.add_metric([host], float(proof.holds))
    expiry = GaugeMetricFamily(
        "fl_certificate_expiry_timestamp_seconds", "When the newest certificate ends, in Unix time.", labels=["subject", "role"]
    )
    for certificate in status.state.certificates.values():
        if not certificate.revoked:
            expiry.add_metric([certificate.subject, certificate.role], certificate.not_after.astimezone(UTC).timestamp())
    yield from (flags, by_device, reputation, age, holds, expiry)


def _service(status: Status) -> Iterable[Metric]:
    yield _plain("fl_superlink_reachable", "Whether the monitor reaches the SuperLink.", float(not status.superlink))
    yield _plain("fl_journal_verified", "Whether the journal's hash chain holds.", float(not status.broken_seq))
    yield _plain("fl_journal_last_seq", "Number of the journal's last event.", status.state.seq)
    if status.state.at is not None:
        yield _plain("fl_journal_last_event_timestamp_seconds", "When the last event was written.", _unix(status.state.at))


def _plain(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _unix(at: datetime) -> float:
    return at.astimezone(UTC).timestamp()
