"""The line that names the views, with their keys, and the page that lies over one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip

from edgefl.console.ink import Ink, Tone, fit, ink, width
from edgefl.console.widgets.inked import Inked


class TabBar(Inked):
    """` 1 Fleet  2 Rounds   ▸ edge-03`; where there is no room for all of it, the other views are their keys alone."""

    class Chosen(Message):
        """A view was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = tuple(names)
        self._active = 0
        self._trail: tuple[str, ...] = ()
        self._notice = ""

    def show(self, active: int, trail: Sequence[str], notice: str = "") -> None:
        """Mark the active view; `trail` names the pages over it, `notice` says what is wrong with the feed."""
        now = (active, tuple(trail), notice)
        if now != (self._active, self._trail, self._notice):
            self._active, self._trail, self._notice = now
            self.refresh()

    def _tabs(self) -> list[Ink]:
        trail = sum(cell_len(name) + 3 for name in self._trail)
        is_short = sum(cell_len(name) + 5 for name in self._names) + trail > self.size.width
        tabs = []
        for index, name in enumerate(self._names):
            if index == self._active:
                tabs.append((*ink(f" {index + 1} ", Tone.ACCENT), *ink(f"{name} ", Tone.STRONG)))
            else:
                tabs.append(ink(f" {index + 1} " if is_short else f" {index + 1} {name} ", Tone.MUTED))
        return tabs

    def render_line(self, y: int) -> Strip:
        """The one line."""
        line: Ink = ()
        for index, tab in enumerate(self._tabs()):
            line = (*line, *ink("▎" if index == self._active else " ", Tone.ACCENT), *tab)
        for name in self._trail:
            line = (*line, *ink(" ▸ ", Tone.MUTED), *ink(name, Tone.STRONG))
        room = self.size.width - width(line) - 4
        if self._notice and room > 8:
            line = (*line, *ink("   "), *fit(ink(self._notice, Tone.WARN), room, right=True))
        return self.strip(line, self.size.width)

    def on_click(self, event: events.Click) -> None:
        """A click on a name chooses its view."""
        at = 0
        for index, tab in enumerate(self._tabs()):
            at += 1 + width(tab)
            if event.x < at:
                self.post_message(self.Chosen(index))
                return
