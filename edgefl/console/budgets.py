"""Ledgers over rounds: what they have spent, how far each lasts by its own forecast, and which round it will refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgefl.console import summary
from edgefl.console.widgets.canvas import Series
from edgefl.monitor.device import Epsilon
from edgefl.monitor.round import Spread
from edgefl.monitor.state import FederationState

COORDINATOR = "coordinator"
_SAMPLES = 8
"""Rounds at which the forecast is worked out; between them it is straight. It is drawn anew with every event of a large fleet."""
_FAR = 4
"""How much longer than the past, or than the run, the forecast may become; what ends later is not in the picture."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One ledger. ends: the round that it will refuse, by its own forecast; None while that is unknown.

    last: the last round of the run that is going on; 0 where none is, and `ends` counts the next run's rounds.
    """

    name: str
    epsilon: Epsilon
    ends: int | None
    last: int

    @property
    def lasts(self) -> bool:
        """Whether it covers the rest of the run that is going on."""
        return self.ends is None or self.ends > self.last


def budgets(state: FederationState) -> list[Budget]:
    """The ledgers that have reported: the coordinator's own where it protects whole devices, then the devices'."""
    done, last = position(state)

    def budget(name: str, epsilon: Epsilon) -> Budget:
        left = epsilon.rounds_left
        return Budget(name, epsilon, None if left is None else done + left + 1, last)

    own = [budget(COORDINATOR, state.models)] if state.models else []
    told = [row for row in summary.members(state) if row.epsilon.delta is not None or row.epsilon.refused]
    return [*own, *(budget(row.name, row.epsilon) for row in told)]


def position(state: FederationState) -> tuple[int, int]:
    """The rounds done and the last one of the run that is going on; (0, 0) where none is."""
    run = state.run
    return (summary.done(state), summary.last_round(state)) if run is not None and run.status == "running" else (0, 0)


def lasting(rows: Sequence[Budget], state: FederationState) -> Series:
    """How many budgets still last in each round from now on: a falling staircase, its corners only."""
    ends = sorted(row.ends for row in rows if row.ends is not None)
    if not ends:
        return Series()
    corners = {position(state)[0]: len(ends)}
    left = len(ends)
    for end, going in Counter(ends).items():
        corners |= {end - 1: left, end: left - going}
        left -= going
    return Series(tuple((float(round_), float(count)) for round_, count in corners.items()))


def spending(rows: Sequence[Budget], state: FederationState) -> Series:
    """Which part of its limit the middle ledger has spent after each round, and from the least to the most as a band.

    What is to come is a forecast: each ledger goes straight from what it has spent to its limit, where a mark stands at the
    round that it will refuse. Where no run is on, rounds are counted from the next run's first: those of the last are negative.
    """
    now, last = position(state)
    back = 0 if last else summary.done(state)
    told = [(row.number - back, row.spent) for row in state.rounds if row.spent is not None]
    past = {float(round_): spent for round_, spent in told if round_ <= now}
    coming: dict[float, Spread] = {}
    ends = sorted({row.ends for row in rows if row.ends is not None})
    if ends:
        until = _until(now, max(last, ends[0]), ends[-1], len(past))
        slopes = [(row.epsilon.share, max(1, (row.ends or 0) - 1 - now)) for row in rows if row.ends is not None]
        for step in range(_SAMPLES + 1):
            part = (until - now) * step / _SAMPLES
            shares = [share + max(0.0, 1 - share) * min(1.0, part / left) for share, left in slopes]
            coming[now + part] = Spread.of(shares)
    whole = past | coming
    return Series(
        tuple((x, spread.middle) for x, spread in whole.items()),
        tuple((x, spread.least, spread.most) for x, spread in whole.items()),
        ahead=float(now) if coming else float("inf"),
        level=1.0 if whole else None,
        marks=tuple(float(end) for end in ends if end <= until) if ends else (),
    )


def _until(now: int, soon: int, latest: int, past: int) -> float:
    """The last round in the picture: the latest end, unless what is near would shrink to nothing beside it."""
    return float(max(soon, min(latest, now + _FAR * max(soon - now, past, 1))))
