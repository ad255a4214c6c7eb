"""What the masthead and the views say about a federation beyond single rows: counts, forecasts, bands. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from math import isfinite
from statistics import median, quantiles
from typing import TypeVar

from edgefl.console.widgets.canvas import Series
from edgefl.monitor.device import Certificate, DeviceRow, Epsilon
from edgefl.monitor.round import RoundRow, UpdateRow
from edgefl.monitor.state import FederationState

PRESENT = frozenset({"online", "training", "waiting", "suspect"})
"""States in which a device is there."""
_RECENT = 5


Answer = TypeVar("Answer")


def _once(question: Callable[[FederationState], Answer]) -> Callable[[FederationState], Answer]:
    """The question, asked once of a state however often its answer is needed: a paint needs most of them several times.

    A state never changes, so the last one's answer is all that has to be kept.
    """
    last: list[tuple[FederationState, Answer]] = []

    @wraps(question)
    def answer(state: FederationState) -> Answer:
        if not last or last[0][0] is not state:
            last[:] = [(state, question(state))]
        return last[0][1]

    return answer


def eta_s(state: FederationState, now: datetime) -> float | None:
    """Seconds until the run ends at the pace of its last rounds; None while there is nothing to go by."""
    run = state.run
    took = [row.wall_s for row in state.rounds if row.wall_s is not None][-_RECENT:]
    if run is None or run.status != "running" or not took:
        return None
    pace, left = median(took), last_round(state) - done(state)
    current = state.rounds[-1]
    spent = (now - current.started).total_seconds() if current.state == "running" else 0.0
    return max(0.0, pace * left - min(spent, pace))


def last_round(state: FederationState) -> int:
    """The number of the run's last round; 0 when there is no run."""
    return state.run.rounds if state.run else 0


def done(state: FederationState) -> int:
    """The number of the last round that has ended."""
    return next((row.number for row in reversed(state.rounds) if row.state != "running"), 0)


def latest(state: FederationState, field: Callable[[RoundRow], float | None]) -> float | None:
    """A field of the newest round that has it."""
    return next((value for row in reversed(state.rounds) if (value := field(row)) is not None), None)


def history(state: FederationState, field: Callable[[RoundRow], float | None]) -> list[float]:
    """A field over the rounds that have it."""
    return [value for row in state.rounds if (value := field(row)) is not None]


@_once
def present(state: FederationState) -> int:
    """How many devices are there."""
    return sum(row.state in PRESENT for row in state.devices.values())


@_once
def members(state: FederationState) -> Sequence[DeviceRow]:
    """The devices that belong to the federation."""
    return [row for row in state.devices.values() if row.state != "removed"]


@_once
def flagged(state: FederationState) -> Sequence[DeviceRow]:
    """The devices that the current run has flagged, or that are suspect still."""
    run = state.run.id if state.run else ""
    return [row for row in members(state) if row.suspect or (row.flags and any(flag.run == run for flag in row.flags))]


@_once
def most_spent(state: FederationState) -> Epsilon | None:
    """The budget nearest to its limit, of the devices and the coordinator; None while no limit is known."""
    budgets = [*(row.epsilon for row in members(state)), *([state.models] if state.models else [])]
    return max((budget for budget in budgets if budget.limit), key=lambda budget: budget.share, default=None)


@_once
def first_to_expire(state: FederationState) -> Certificate | None:
    """The valid certificate with the least time left."""
    valid = [certificate for certificate in state.certificates.values() if not certificate.revoked]
    return min(valid, key=lambda certificate: certificate.not_after, default=None)


@_once
def isolation(state: FederationState) -> tuple[int, int]:
    """How many devices are proven to be isolated, and how many hosts are proven not to be."""
    devices = [row.isolation for row in members(state) if row.isolation is not None]
    holding = sum(proof.holds for proof in devices)
    return holding, len(devices) - holding + sum(not proof.holds for proof in state.proofs.values())


def middle_norm(row: RoundRow) -> float | None:
    """The median norm of a round's updates; None while none of them was scored, or where only sums are seen."""
    norms = [update.norm for update in row.updates.values() if update.norm is not None and isfinite(update.norm)]
    return median(norms) if norms else None


class Curve:
    """A measure over rounds, and the middle 80 % of the devices around it.

    A round's band is worked out once: its updates are many, and what has ended does not change.
    """

    def __init__(self, field: Callable[[RoundRow], float | None], of_update: Callable[[UpdateRow], float | None]) -> None:
        self._field = field
        self._of_update = of_update
        self._bands: dict[int, tuple[RoundRow, tuple[float, float] | None]] = {}

    def over(self, rounds: Sequence[RoundRow]) -> Series:
        """The measure over these rounds."""
        points = [(float(row.number), value) for row in rounds if (value := self._field(row)) is not None and isfinite(value)]
        known, self._bands = self._bands, {}
        band = []
        for row in rounds:
            if row.state == "finished" and row.updates:
                kept = known.get(row.number)
                self._bands[row.number] = kept = kept if kept and kept[0] is row else (row, self._band(row))
                if kept[1] is not None:
                    band.append((float(row.number), *kept[1]))
        return Series(tuple(points), tuple(band))

    def _band(self, row: RoundRow) -> tuple[float, float] | None:
        told = (self._of_update(update) for update in row.updates.values())
        values = [value for value in told if value is not None and isfinite(value)]
        return _middle(values) if len(values) >= 3 else None


def _middle(values: Iterable[float]) -> tuple[float, float]:
    """The first and the last decile."""
    deciles = quantiles(values, n=10, method="inclusive")
    return deciles[0], deciles[-1]
