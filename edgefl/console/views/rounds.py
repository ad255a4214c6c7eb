"""The rounds: whether the model learns, what each round cost, and who was left out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from edgefl.console import figures, summary
from edgefl.console.ink import Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.pages.round import RoundPage
from edgefl.console.view import GridView
from edgefl.console.widgets.canvas import Series
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.plot import Plot
from edgefl.monitor.round import RoundRow
from edgefl.monitor.state import FederationState


class Rounds(GridView):
    """Accuracy and loss over rounds with the devices' band, and the table of rounds, the newest first."""

    NAME = "Rounds"
    WHAT = (
        "Accuracy and loss over rounds, how far updates go and what they weigh, and what each round took. Enter opens the round: "
        "every update and its score."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "plots", "Plots", tooltip="Plots: accuracy and loss, or what updates are like")
    ]

    def __init__(self) -> None:
        super().__init__(
            Grid[RoundRow](COLUMNS, lambda row: str(row.number), empty="no rounds yet: `edgefl run` starts training")
        )
        self._accuracy = Plot("accuracy", floor=0.0, ceiling=1.0)
        self._loss = Plot("loss", floor=0.0)
        self._norms = Plot("update norm", floor=0.0)
        self._bytes = Plot("sent up", floor=0.0, note="")
        self._of_accuracy = summary.Curve(lambda row: row.accuracy, lambda update: update.accuracy)
        self._of_loss = summary.Curve(lambda row: row.loss, lambda update: update.loss)
        self._of_norms = summary.Curve(summary.middle_norm, lambda update: update.norm)
        self._drawn: tuple[RoundRow, ...] | None = None

    def above(self) -> Iterable[Widget]:
        """Two plots side by side, below them two more; a low terminal shows one pair or the other."""
        yield Horizontal(self._accuracy, self._loss, id="learnt", classes="plots")
        yield Horizontal(self._norms, self._bytes, id="sent", classes="plots")

    def show(self, frame: Frame) -> None:
        """Bring plots and table up to this frame."""
        state = frame.state
        if self._drawn is not state.rounds:
            self._drawn = state.rounds
            self._accuracy.show(self._of_accuracy.over(state.rounds), _latest(state, lambda row: row.accuracy))
            self._loss.show(self._of_loss.over(state.rounds), _latest(state, lambda row: row.loss))
            self._norms.show(self._of_norms.over(state.rounds), _latest(state, summary.middle_norm))
            self._bytes.show(*_sent(state))
            self.grid.show(state.rounds[::-1])

    def action_plots(self) -> None:
        """Show the other pair of plots."""
        self.toggle_class("-sent")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where all plots are on the screen there are no others."""
        return not (action == "plots" and self.screen.has_class("-tall")) and super().check_action(action, parameters)

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the round's page."""
        self.post_message(self.Open(RoundPage(int(message.key))))


def _sent(state: FederationState) -> tuple[Series, Ink]:
    """The bytes of each finished round's updates as an area from nothing up, in the unit in which the last one is told."""
    sent = [(float(row.number), row.bytes_up) for row in state.rounds if row.state == "finished"]
    if not sent:
        return Series(), ink("no value yet", Tone.MUTED)
    latest = figures.size(sent[-1][1])
    unit = 1000.0 ** (" KMGTP".index(latest[-1]) if latest[-1].isalpha() else 0)
    points = tuple((number, many / unit) for number, many in sent)
    return Series(points, tuple((number, 0.0, many) for number, many in points)), ink(f"{latest} in the last round", Tone.ACCENT)


def _latest(state: FederationState, field: Callable[[RoundRow], float | None]) -> Ink:
    values = summary.history(state, field)
    if not values:
        return ink("no value yet", Tone.MUTED)
    line = ink(figures.number(values[-1], 3), Tone.ACCENT)
    if len(values) > 1:
        line = (*line, *ink(f"  {values[-1] - values[-2]:+.3f}", Tone.MUTED))
    return line


def _state(row: RoundRow, _: int) -> Ink:
    sign, tone = {"running": ("●", Tone.ACCENT), "finished": ("✓", Tone.MUTED), "skipped": ("!", Tone.WARN)}[row.state]
    return ink(f"{sign} {row.state}", tone)


def _devices(row: RoundRow, _: int) -> Ink:
    here = len(row.participants) if row.state != "running" else sum(update.samples is not None for update in row.updates.values())
    return ink(f"{here}/{len(row.devices)}")


def _flagged(row: RoundRow, cells: int) -> Ink:
    """Who was flagged; a masked round cannot tell."""
    if row.secure and not row.flagged:
        return ink(row.secure, Tone.MUTED)
    return _names(lambda one: one.flagged, Tone.BAD, "⚑ ")(row, cells)


def _names(field: Callable[[RoundRow], Sequence[str]], tone: Tone, sign: str = "") -> Callable[[RoundRow, int], Ink]:
    """A count, with the names behind it where the column is wide enough."""

    def draw(row: RoundRow, cells: int) -> Ink:
        names = field(row)
        if not names:
            return ink("·", Tone.MUTED)
        short = f"{sign}{len(names)}"
        full = f"{short} {', '.join(names)}"
        return ink(full if len(full) <= cells else short, tone)

    return draw


def _stage(*stages: str) -> Callable[[RoundRow], float | None]:
    def spent(row: RoundRow) -> float | None:
        known = [row.seconds[stage] for stage in stages if stage in row.seconds]
        return sum(known) if known else None

    return spent


def _ratio(row: RoundRow, _: int) -> Ink:
    return _muted(figures.times(row.ratio.get("up")))


def _stage_column(key: str, title: str, importance: int, *stages: str) -> Column[RoundRow]:
    spent = _stage(*stages)
    return Column(key, title, 6, lambda row, _: _muted(figures.seconds(spent(row))), spent, importance, descending=True)


def _muted(text: str) -> Ink:
    return ink(text, Tone.MUTED if text == figures.NOTHING else Tone.PLAIN)


def _who(key: str, title: str, of: Callable[[RoundRow], Sequence[str]], tone: Tone, sign: str = "") -> Column[RoundRow]:
    return Column(key, title, 4, _names(of, tone, sign), lambda row: len(of(row)), right=False, most=14, descending=True, raw=of)


def _bytes(key: str, title: str, of: Callable[[RoundRow], int], importance: int) -> Column[RoundRow]:
    return Column(key, title, 4, lambda row, _: _muted(figures.size(of(row))), of, importance, descending=True)


COLUMNS: tuple[Column[RoundRow], ...] = (
    Column("round", "ROUND", 5, lambda row, _: ink(str(row.number), Tone.STRONG), lambda row: row.number, descending=True),
    Column("state", "STATE", 10, _state, lambda row: row.state, importance=7, right=False),
    Column("acc", "ACC", 5, lambda row, _: _muted(figures.number(row.accuracy, 3)), lambda row: row.accuracy, descending=True),
    Column("loss", "LOSS", 5, lambda row, _: _muted(figures.number(row.loss)), lambda row: row.loss),
    Column("devices", "DEVICES", 7, _devices, lambda row: len(row.participants)),
    _who("dropped", "DROP", lambda row: row.dropped, Tone.WARN),
    _who("rejected", "REJ", lambda row: row.rejected, Tone.BAD),
    Column(
        "flagged",
        "FLAG",
        4,
        _flagged,
        lambda row: len(row.flagged),
        right=False,
        most=14,
        descending=True,
        raw=lambda row: row.flagged,
    ),
    Column("time", "TIME", 6, lambda row, _: _muted(figures.seconds(row.wall_s)), lambda row: row.wall_s, descending=True),
    _stage_column("train", "TRAIN", 1, "start", "train"),
    _stage_column("transfer", "TRANSFER", 4, "send", "upload"),
    _stage_column("aggregate", "AGGREGATE", 5, "score", "aggregate"),
    _stage_column("evaluate", "EVAL", 6, "evaluate"),
    _bytes("up", "UP", lambda row: row.bytes_up, 2),
    _bytes("down", "DOWN", lambda row: row.bytes_down, 3),
    Column("ratio", "RATIO", 5, _ratio, lambda row: row.ratio.get("up"), importance=8, descending=True),
)
