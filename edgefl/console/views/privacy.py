"""Privacy: what each ledger has spent and has left, and how long the fleet can go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from textual.containers import Horizontal
from textual.widget import Widget

from edgefl.console import figures, summary
from edgefl.console.ink import EMPTY, Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.view import GridView
from edgefl.console.widgets.canvas import Series
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.plot import Plot
from edgefl.console.widgets.sheet import Sheet
from edgefl.console.widgets.states import epsilon_ink
from edgefl.monitor.device import Epsilon
from edgefl.monitor.state import FederationState

COORDINATOR = "coordinator"


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


class Privacy(GridView):
    """How many budgets last how long, the last audits, and a row per ledger."""

    NAME = "Privacy"
    WHAT = "What each device's own ledger has spent and has left, and the round that it will refuse. Enter opens the device."

    def __init__(self) -> None:
        super().__init__(
            Grid[Budget](COLUMNS, lambda row: row.name, empty="no ledger has reported: `privacy.mode` in site.yaml asks for one")
        )
        self._forecast = Plot("budgets that last", floor=0.0)
        self._sheet = Sheet()

    def above(self) -> Iterable[Widget]:
        """The forecast, and what it comes to in words."""
        yield Horizontal(self._forecast, self._sheet, id="plots")

    def show(self, frame: Frame) -> None:
        """Bring forecast, words and rows up to this frame."""
        rows = budgets(frame.state)
        known = sum(row.ends is not None for row in rows)
        self._forecast.show(forecast(rows, frame.state), ink(f"{known} known" if known else "none known yet", Tone.MUTED))
        self._sheet.show([ink(" ") + line for line in (*_outlook(rows, frame.state), EMPTY, *_audits(frame))])
        self.grid.show(rows)

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the device; the coordinator's ledger stands here in full."""
        if message.key != COORDINATOR:
            self.post_message(self.Open(DevicePage(message.key)))


def budgets(state: FederationState) -> list[Budget]:
    """The ledgers that have reported: the coordinator's own where it protects whole devices, then the devices'."""
    done, last = _position(state)

    def budget(name: str, epsilon: Epsilon) -> Budget:
        left = epsilon.rounds_left
        return Budget(name, epsilon, None if left is None else done + left + 1, last)

    own = [budget(COORDINATOR, state.models)] if state.models else []
    told = [row for row in summary.members(state) if row.epsilon.delta is not None or row.epsilon.refused]
    return [*own, *(budget(row.name, row.epsilon) for row in told)]


def _position(state: FederationState) -> tuple[int, int]:
    """The rounds done and the last one of the run that is going on; (0, 0) where none is."""
    run = state.run
    return (summary.done(state), summary.last_round(state)) if run is not None and run.status == "running" else (0, 0)


def forecast(rows: Sequence[Budget], state: FederationState) -> Series:
    """How many budgets still last in each round from now on: a falling staircase, its corners only."""
    ends = sorted(row.ends for row in rows if row.ends is not None)
    if not ends:
        return Series()
    corners = {_position(state)[0]: len(ends)}
    left = len(ends)
    for end, going in Counter(ends).items():
        corners |= {end - 1: left, end: left - going}
        left -= going
    return Series(tuple((float(round_), float(count)) for round_, count in corners.items()))


def _outlook(rows: Sequence[Budget], state: FederationState) -> list[Ink]:
    """What the forecast means for the run that is going on."""
    refused = [ink(f"{row.name} refused its last round: {row.epsilon.refused}", Tone.BAD) for row in rows if row.epsilon.refused]
    known = [row for row in rows if row.ends is not None]
    if not known:
        return [*refused, ink("no forecast: it comes with a run's first round", Tone.MUTED)]
    _, last = _position(state)
    if not last:
        least = min(row.ends or 0 for row in known) - 1
        return [*refused, ink(f"no run is on; all {len(known)} budgets last {least} rounds", Tone.PLAIN if least else Tone.WARN)]
    short = [row for row in known if not row.lasts]
    if not short:
        return [*refused, ink(f"✓ all {len(known)} budgets last until round {last}", Tone.GOOD)]
    first = min(short, key=lambda row: row.ends or 0)
    return [
        *refused,
        ink(f"! {len(short)} of {len(known)} budgets end before round {last}", Tone.WARN),
        ink(f"{first.name} is first, in round {first.ends}"),
        ink("next: a larger epsilon_limit, or fewer rounds", Tone.MUTED),
    ]


def _audits(frame: Frame) -> list[Ink]:
    """The last audit of each kind."""
    lines: list[Ink] = []
    for kind, audit in sorted(frame.state.audits.items()):
        sign, tone = ("✓", Tone.GOOD) if audit.passed else ("✖", Tone.BAD)
        lines.append((*ink(f"{sign} audit: {kind}", tone), *ink(f" {figures.age(frame.age_s(audit.at))} ago", Tone.MUTED)))
        lines.append(ink(f"  {audit.says}"))
    return lines or [ink("no audit yet: `edgefl audit membership`", Tone.MUTED)]


def _ends(row: Budget, _: int) -> Ink:
    if row.epsilon.refused:
        return ink("✖ refused", Tone.BAD)
    if row.ends is None:
        return ink(figures.NOTHING, Tone.MUTED)
    return ink(f"{row.ends}", Tone.MUTED) if row.lasts else ink(f"! {row.ends}", Tone.WARN)


def _number(
    key: str, title: str, of: Callable[[Epsilon], float | None], shown: Callable[[float], str], importance: int
) -> Column[Budget]:
    def draw(row: Budget, _: int) -> Ink:
        value = of(row.epsilon)
        return ink(figures.NOTHING, Tone.MUTED) if value is None else ink(shown(value))

    return Column(key, title, 6, draw, lambda row: of(row.epsilon), importance, descending=True)


_BAR: Column[Budget] = Column(
    "epsilon",
    "ε SPENT/LIMIT",
    13,
    lambda row, cells: epsilon_ink(row.epsilon, cells),
    lambda row: row.epsilon.share,
    right=False,
    most=40,
    descending=True,
    raw=lambda row: row.epsilon.spent,
)
COLUMNS: tuple[Column[Budget], ...] = (
    Column("device", "DEVICE", 8, lambda row, _: ink(row.name, Tone.STRONG), lambda row: row.name, right=False, whole=True),
    _BAR,
    _number("run", "THIS RUN", lambda epsilon: epsilon.run_spent, lambda value: f"{value:.2f}", 1),
    _number("left", "ROUNDS LEFT", lambda epsilon: epsilon.rounds_left, lambda value: f"{value:.0f}", 2),
    Column("refuses", "REFUSES", 9, _ends, lambda row: row.ends),
    _number("sigma", "σ", lambda epsilon: epsilon.sigma, lambda value: f"{value:.2f}", 3),
    _number("delta", "δ", lambda epsilon: epsilon.delta, lambda value: f"{value:g}", 4),
    _number("rate", "SAMPLING", lambda epsilon: epsilon.sampling_rate, lambda value: f"{value:.3f}", 5),
)
