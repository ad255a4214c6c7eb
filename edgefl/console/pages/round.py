"""One round: where its time went, and every device's update with its score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from edgefl.console import figures
from edgefl.console.ink import EMPTY, Ink, Tone, ink, join
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.updates import DEVICE, EVIDENCE, Part
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.sheet import Sheet
from edgefl.monitor.round import STAGES, RoundRow, UpdateRow

_DOT = ink(" · ", Tone.MUTED)


class RoundPage(GridView):
    """A round of the current run, live."""

    WHAT = "One round: the time of each stage, and each device's update: score, weight, norm, cosine to the robust centre."
    BINDINGS: ClassVar[list[BindingType]] = [LOGS]

    def __init__(self, number: int) -> None:
        super().__init__(
            Grid[Part](
                (DEVICE, *EVIDENCE), lambda part: part.update.device, empty="single updates are kept for the last rounds only"
            )
        )
        self._sheet = Sheet()
        self._number = number

    @property
    def title(self) -> str:
        """Which round."""
        return f"round {self._number}"

    def above(self) -> Iterable[Widget]:
        """The facts."""
        yield self._sheet

    def show(self, frame: Frame) -> None:
        """Bring the page up to this frame."""
        row = next((row for row in frame.state.rounds if row.number == self._number), None)
        if row is None:
            self._sheet.show([ink(" this round belongs to another run", Tone.WARN)])
            return
        self._sheet.show([ink(" ") + line for line in (*_facts(row, frame), EMPTY)])
        updates = [row.updates.get(name) or UpdateRow(device=name) for name in row.devices] if row.updates else []
        self.grid.show([Part(row.number, update) for update in updates])

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the device."""
        self.post_message(self.Open(DevicePage(message.key)))


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
