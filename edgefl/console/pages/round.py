"""One round: where its time went, and every device's update with its score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from edgefl.console import figures
from edgefl.console.ink import EMPTY, Ink, Tone, ink, join
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.updates import DEVICE, EVIDENCE, Part
from edgefl.console.pages.waterfall import LEGEND, WATERFALL, Fall, falls
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.sheet import Sheet
from edgefl.monitor.round import STAGES, RoundRow, UpdateRow

_DOT = ink(" · ", Tone.MUTED)


class RoundPage(GridView):
    """A round of the current run, live."""

    WHAT = (
        "One round: each device's update with its score, weight, norm and cosine to the robust centre, and where the time went: "
        "the coordinator's stages and every device's part. Enter opens the device."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Next table", show=False),
        LOGS,
        Binding("v", "times", "Times", tooltip="Times: where the time went, or what became of the updates"),
    ]

    def __init__(self, number: int) -> None:
        self._updates = Grid[Part](
            (DEVICE, *EVIDENCE), lambda part: part.update.device, empty="single updates are kept for the last rounds only"
        )
        self._times = Grid[Fall](WATERFALL, lambda fall: fall.key, empty="nothing is known of its times yet")
        super().__init__(self._updates)
        self._sheet = Sheet()
        self._number = number
        self._frame: Frame | None = None

    @property
    def title(self) -> str:
        """Which round."""
        return f"round {self._number}"

    def above(self) -> Iterable[Widget]:
        """The facts."""
        yield self._sheet

    def below(self) -> Iterable[Widget]:
        """Where the time went; a low terminal shows it instead of the updates, when it is asked for."""
        self._times.id = "times"
        yield self._times

    def show(self, frame: Frame) -> None:
        """Bring the page up to this frame."""
        self._frame = frame
        row = next((row for row in frame.state.rounds if row.number == self._number), None)
        if row is None:
            self._sheet.show([ink(" this round belongs to another run", Tone.WARN)])
            return
        shows_times = self.has_class("-times") or self.screen.has_class("-tall")
        lines = (*_facts(row, frame), *([LEGEND] if shows_times else []), EMPTY)
        self._sheet.show([ink(" ") + line for line in lines])
        updates = [row.updates.get(name) or UpdateRow(device=name) for name in row.devices] if row.updates else []
        self._updates.show([Part(row.number, update) for update in updates])
        is_known = bool(row.updates) or row.state == "running"
        self._times.show(falls(row, frame.now) if shows_times and is_known else [])

    def action_times(self) -> None:
        """Show where the time went, or what became of the updates."""
        self.toggle_class("-times")
        (self._times if self.has_class("-times") else self._updates).focus()
        if self._frame is not None:
            self.show(self._frame)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where there is room both are there."""
        return not (action == "times" and self.screen.has_class("-tall")) and super().check_action(action, parameters)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Filter and sorting act on the table that has the keyboard."""
        if isinstance(event.widget, Grid):
            self.grid = event.widget
            self._tell()

    def device_of(self, row: Part | Fall) -> str:
        """The device that a row is about; a stage is about none."""
        if isinstance(row, Part):
            return row.update.device
        return row.stretch.name if row.stretch.update is not None else ""

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the device."""
        selected = message.grid.selected
        if isinstance(selected, Part | Fall) and (device := self.device_of(selected)):
            self.post_message(self.Open(DevicePage(device)))


def _facts(row: RoundRow, frame: Frame) -> list[Ink]:
    took = row.wall_s if row.wall_s is not None else frame.age_s(row.started)
    stages = [
        (*ink(f"{stage} ", Tone.MUTED), *ink(figures.seconds(row.seconds[stage]))) for stage in STAGES if stage in row.seconds
    ]
    return [
        join(
            [
                ink(f"{row.state} ", Tone.STRONG) + ink(f"in {figures.seconds(took)}", Tone.MUTED),
                ink(f"accuracy {figures.number(row.accuracy, 3)}"),
                ink(f"loss {figures.number(row.loss, 3)}"),
                ink(f"↑ {figures.size(row.bytes_up)} ↓ {figures.size(row.bytes_down)}"),
                ink(row.reason, Tone.WARN),
            ],
            _DOT,
        ),
        join(stages, _DOT) or ink("the stages' times come with the round's end", Tone.MUTED),
        *_sums(row),
    ]


def _sums(row: RoundRow) -> list[Ink]:
    """What the coordinator saw of a masked round: sums, and of single updates neither scores nor flags."""
    if not row.secure:
        return []
    lines = [ink(f"{row.secure}: only sums are seen; a single update has no score and raises no flag", Tone.MUTED)]
    for made in row.sums:
        came = ink(f"sum of {len(made.survivors)} of {len(made.members)}", Tone.PLAIN)
        whose = ink(" ".join(made.members), Tone.MUTED)
        judged = (
            ink(f"{made.verdict} at {figures.number(made.score)} of {figures.number(made.threshold)}") if made.verdict else EMPTY
        )
        lines.append(join([came, judged, ink(made.lost or made.reason, Tone.WARN), whose], _DOT))
    return lines
