"""Privacy: what each ledger has spent and has left, and how long the fleet can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from edgefl.console import figures
from edgefl.console.budgets import COORDINATOR, Budget, budgets, lasting, position, spending
from edgefl.console.ink import EMPTY, Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.plot import Plot
from edgefl.console.widgets.sheet import Sheet
from edgefl.console.widgets.states import epsilon_ink
from edgefl.monitor.device import Epsilon
from edgefl.monitor.state import FederationState

_LEGEND = ink("▆ all  ⠒ middle  ╌ limit  ✖ refuses", Tone.MUTED)


class Privacy(GridView):
    """What ledgers have spent and will, how many last how long, the last audits, and a row per ledger."""

    NAME = "Privacy"
    WHAT = "What each device's own ledger has spent and has left, and the round that it will refuse. Enter opens the device."
    BINDINGS: ClassVar[list[BindingType]] = [LOGS]

    def __init__(self) -> None:
        super().__init__(
            Grid[Budget](COLUMNS, lambda row: row.name, empty="no ledger has reported: `privacy.mode` in site.yaml asks for one")
        )
        self._spending = Plot("ε, part of limit", floor=0.0, note="")
        self._lasting = Plot("budgets that last", floor=0.0, id="lasting")
        self._sheet = Sheet()
        self._hub = COORDINATOR

    def above(self) -> Iterable[Widget]:
        """What was spent and will be, how many last, and what that comes to in words."""
        yield Horizontal(self._spending, self._lasting, self._sheet, classes="plots")

    def show(self, frame: Frame) -> None:
        """Bring forecast, words and rows up to this frame."""
        rows = budgets(frame.state)
        known = sum(row.ends is not None for row in rows)
        self._hub = next((one.subject for one in frame.state.certificates.values() if one.role == "gate"), COORDINATOR)
        most = max((row.epsilon.share for row in rows), default=None)
        self._spending.show(spending(rows, frame.state), ink("" if most is None else f"{most:.0%} at most", Tone.MUTED))
        self._lasting.show(lasting(rows, frame.state), ink(f"{known} known" if known else "none known yet", Tone.MUTED))
        self._sheet.show([ink(" ") + line for line in (*_outlook(rows, frame.state), _LEGEND, EMPTY, *_audits(frame))])
        self.grid.show(rows)

    def device_of(self, row: Budget) -> str:
        """The host that keeps the ledger."""
        return self._hub if row.name == COORDINATOR else row.name

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the device; the coordinator's ledger stands here in full."""
        if message.key != COORDINATOR:
            self.post_message(self.Open(DevicePage(message.key)))


def _outlook(rows: Sequence[Budget], state: FederationState) -> list[Ink]:
    """What the forecast means for the run that is going on."""
    refused = [ink(f"{row.name} refused its last round: {row.epsilon.refused}", Tone.BAD) for row in rows if row.epsilon.refused]
    known = [row for row in rows if row.ends is not None]
    if not known:
        return [*refused, ink("no forecast: it comes with a run's first round", Tone.MUTED)]
    _, last = position(state)
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
        at = f"  {audit.at.astimezone():%Y-%m-%d %H:%M}, {figures.age(frame.age_s(audit.at))} ago"
        lines.append((*ink(f"{sign} audit: {kind}", tone), *ink(at, Tone.MUTED)))
        lines.append(ink(f"  {audit.says}"))
        lines += [_audited(audit.site_hash, frame)] if audit.site_hash else []
    return lines or [ink("no audit yet", Tone.MUTED), ink("next: edgefl audit membership", Tone.MUTED)]


def _audited(site_hash: str, frame: Frame) -> Ink:
    """Which version of the task, its model and its terms was attacked: site.yaml has all of them."""
    version = ink(f"  of site.yaml {site_hash[:12]}", Tone.MUTED)
    run = frame.state.run
    if run is None or site_hash == frame.state.site_hash:
        return version
    return (*version, *ink(f"; run {run.id} has {frame.state.site_hash[:12]}: audit again", Tone.WARN))


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
