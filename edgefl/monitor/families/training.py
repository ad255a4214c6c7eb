"""How the training goes: runs, rounds, and what the models and the devices reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from statistics import pstdev

from prometheus_client.core import Metric

from edgefl.monitor.families.sample import counters, gauge, gauges
from edgefl.monitor.round import STAGES, RoundRow
from edgefl.monitor.status import Status

WINDOW = 5
"""Rounds that convergence and stability look back on."""


def families(status: Status) -> Iterable[Metric]:
    """Everything about runs and rounds."""
    yield from _models(status)
    yield from _rounds(status)
    yield from _devices(status)


def convergence(losses: Sequence[float]) -> float | None:
    """Share by which the loss fell a round, as a geometric mean over these losses; below 0 where it rose.

    None where there are less than two, or one is not above 0: such a loss has no share.
    """
    if len(losses) < 2 or min(losses) <= 0:
        return None
    return float(1 - (losses[-1] / losses[0]) ** (1 / (len(losses) - 1)))


def _models(status: Status) -> Iterable[Metric]:
    done = _finished(status)
    accuracies = [row.accuracy for row in done if row.accuracy is not None]
    losses = [row.loss for row in done if row.loss is not None]
    last = accuracies[-1] if accuracies else None
    spread = pstdev(accuracies[-WINDOW:]) if len(accuracies) > 1 else None
    falling = convergence(losses[-WINDOW - 1 :])
    yield gauge("fl_training_accuracy", "Accuracy of the newest global model, from 0 to 1.", last)
    yield gauge("fl_training_best_accuracy", "Best accuracy of this run's global models.", max(accuracies, default=None))
    yield gauge("fl_training_loss", "Loss of the newest global model.", losses[-1] if losses else None)
    yield gauge("fl_training_convergence_ratio", f"Share by which the loss fell a round, over the last {WINDOW}.", falling)
    yield gauge("fl_training_accuracy_deviation", f"Standard deviation of the accuracy over {WINDOW} rounds.", spread)


def _rounds(status: Status) -> Iterable[Metric]:
    state, run = status.state, status.state.run
    newest = state.rounds[-1] if state.rounds else None
    yield gauge("fl_run_active", "Whether a run is going on.", float(run is not None and run.status == "running"))
    yield gauge("fl_run_failed", "Whether the last run failed.", float(run is not None and run.status == "failed"))
    yield gauge("fl_run_rounds", "Rounds that the current or last run has in all.", run.rounds if run else 0)
    yield gauge("fl_run_round", "Round that the current or last run is in.", newest.number if newest else 0)
    started = newest.started.astimezone(UTC).timestamp() if newest else None
    yield gauge("fl_round_started_timestamp_seconds", "When the newest round began, in Unix time.", started)
    yield gauge("fl_round_deadline_seconds", "How long the newest round awaits replies.", newest.deadline_s if newest else None)
    results = {"finished": state.totals.rounds, "skipped": state.totals.rounds_skipped}
    yield counters("fl_rounds", "Rounds that ended, by how.", ("result",), results)
    spent = {stage: state.totals.seconds.get(stage, 0.0) for stage in STAGES}
    yield counters("fl_round_stage_seconds", "Time that rounds spent, by stage.", ("stage",), spent)
    done = _finished(status)
    last = {stage: seconds for stage, seconds in done[-1].seconds.items() if stage in STAGES} if done else {}
    yield gauges("fl_last_round_stage_seconds", "Time that the last round spent, by stage.", ("stage",), last)
    yield gauge(
        "fl_last_round_seconds", "Time from the last round's first message to its result.", done[-1].wall_s if done else None
    )


def _devices(status: Status) -> Iterable[Metric]:
    rows = status.state.devices.values()
    became = {
        (row.name, result): float(number)
        for row in rows
        for result, number in (("received", row.updates), ("rejected", row.rejected), ("missing", row.dropped))
    }
    yield counters("fl_model_updates", "Updates that devices sent, by what became of them.", ("device", "result"), became)
    accuracies = {row.name: row.accuracy for row in rows}
    yield gauges("fl_device_accuracy", "Accuracy that the device measured last.", ("device",), accuracies)
    yield gauges("fl_device_loss", "Loss that the device measured last.", ("device",), {row.name: row.loss for row in rows})
    yield gauges(
        "fl_device_samples", "Records that the device's last update is made of.", ("device",), {r.name: r.samples for r in rows}
    )


def _finished(status: Status) -> list[RoundRow]:
    return [row for row in status.state.rounds if row.state == "finished"]
