"""What the masthead and the views say about a federation beyond single rows: counts, forecasts, bands. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from math import isfinite
from statistics import median, quantiles

from edgefl.console.widgets.canvas import Series
from edgefl.monitor.device import Certificate, DeviceRow, Epsilon
from edgefl.monitor.round import RoundRow, UpdateRow
from edgefl.monitor.state import FederationState

PRESENT = frozenset({"online", "training", "waiting", "suspect"})
"""States in which a device is there."""
_RECENT = 5


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


def present(state: FederationState) -> int:
    """How many devices are there."""
    return sum(row.state in PRESENT for row in state.devices.values())


def members(state: FederationState) -> list[DeviceRow]:
    """The devices that belong to the federation."""
    return [row for row in state.devices.values() if row.state != "removed"]


def flagged(state: FederationState) -> list[DeviceRow]:
    """The devices that the current run has flagged, or that are suspect still."""
    run = state.run.id if state.run else ""
    return [row for row in members(state) if row.suspect or any(flag.run == run for flag in row.flags)]


def most_spent(state: FederationState) -> Epsilon | None:
    """The budget nearest to its limit, of the devices and the coordinator; None while no limit is known."""
    budgets = [*(row.epsilon for row in members(state)), *([state.models] if state.models else [])]
    return max((budget for budget in budgets if budget.limit), key=lambda budget: budget.share, default=None)


def first_to_expire(state: FederationState) -> Certificate | None:
    """The valid certificate with the least time left."""
    valid = [certificate for certificate in state.certificates.values() if not certificate.revoked]
    return min(valid, key=lambda certificate: certificate.not_after, default=None)


def series(
    rounds: Sequence[RoundRow], field: Callable[[RoundRow], float | None], of_update: Callable[[UpdateRow], float | None]
) -> Series:
    """The global value over rounds, and the middle 80 % of the devices around it."""
    points = [(float(row.number), value) for row in rounds if (value := field(row)) is not None and isfinite(value)]
    band = []
    for row in rounds:
        told = (of_update(update) for update in row.updates.values())
        values = [value for value in told if value is not None and isfinite(value)]
        if row.state == "finished" and len(values) >= 3:
            low, high = _middle(values)
            band.append((float(row.number), low, high))
    return Series(tuple(points), tuple(band))


def _middle(values: Iterable[float]) -> tuple[float, float]:
    """The first and the last decile."""
    deciles = quantiles(values, n=10, method="inclusive")
    return deciles[0], deciles[-1]
