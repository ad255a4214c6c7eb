"""One flag: the update's score among its peers', why it counts, and every update of its round beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from edgefl.console import figures
from edgefl.console.ink import EMPTY, Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.updates import DEVICE, EVIDENCE, Part
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.sheet import Sheet
from edgefl.console.widgets.states import state_ink
from edgefl.monitor.device import Flag

_STRIP = 60
"""Cells of the scores' line on a narrow terminal; wider ones give it more, up to twice as many."""


class FlagPage(GridView):
    """A flag with its evidence."""

    WHAT = (
        "One flag: the update's score against the threshold and its peers, and every update of that round. Enter opens a device."
    )
    OF_DEVICES = True
    BINDINGS: ClassVar[list[BindingType]] = [LOGS]

    def __init__(self, device: str, flag: Flag) -> None:
        super().__init__(
            Grid[Part](
                (DEVICE, *EVIDENCE),
                lambda part: part.update.device,
                empty="single updates are kept for the last rounds of the current run only; the journal has them all",
            )
        )
        self._sheet = Sheet()
        self._device = device
        self._flag = flag

    @property
    def title(self) -> str:
        """Whose, and in which round."""
        return f"{self._device} in round {self._flag.round}"

    def above(self) -> Iterable[Widget]:
        """The evidence."""
        yield self._sheet

    @property
    def devices(self) -> Sequence[str]:
        """The marked rows' devices, else the one that the flag is about."""
        return super().devices if self.grid.marked else [self._device]

    def show(self, frame: Frame) -> None:
        """Bring the device's present state and the round's updates up to this frame."""
        row = frame.state.devices.get(self._device)
        now = state_ink(row.state) + ink(f"  {row.detail}", Tone.MUTED) if row else ink("removed", Tone.MUTED)
        cells = max(_STRIP, min(2 * _STRIP, self.app.size.width - 4))
        self._sheet.show(
            [ink(" ") + line for line in (*evidence(self._flag, cells), EMPTY, ink("now   ", Tone.MUTED) + now, EMPTY)]
        )
        run = frame.state.run
        rounds = frame.state.rounds if run is not None and run.id == self._flag.run else ()
        done = next((each for each in rounds if each.number == self._flag.round), None)
        updates = sorted(done.updates.values(), key=lambda update: update.score or 0.0, reverse=True) if done else []
        self.grid.show([Part(self._flag.round, update) for update in updates])

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the device."""
        self.post_message(self.Open(DevicePage(message.key)))


def evidence(flag: Flag, cells: int = _STRIP) -> list[Ink]:
    """The finding in words, and the scores on one line of `cells` cells with what its signs mean."""
    over = flag.score / flag.threshold if flag.threshold else float("inf")
    beyond = sum(peer >= flag.score for peer in flag.peers)
    return [
        (*ink(f"⚑ {flag.rule}", Tone.BAD), *ink(f" run {flag.run}, round {flag.round}: "), *ink(flag.reason, Tone.STRONG)),
        EMPTY,
        figures.strip(flag.score, flag.threshold, flag.peers, cells),
        (
            *ink("◆ this update ", Tone.BAD),
            *ink(figures.number(flag.score)),
            *ink("   │ threshold ", Tone.WARN),
            *ink(figures.number(flag.threshold)),
            *ink(f"   · {len(flag.peers)} peers"),
        ),
        ink(
            f"{figures.times(over)} the threshold; {beyond} of {len(flag.peers)} peers score as high"
            if flag.peers
            else f"{figures.times(over)} the threshold; its peers' scores were not kept",
            Tone.MUTED,
        ),
    ]
