"""A grid of what grows at its end, such as a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.scrollbar import ScrollTo

from edgefl.console.widgets.grid import Grid, Sorting, T


class Tail(Grid[T]):
    """Follows its end until the operator goes up or sorts; then it stands still, and the end, or the key `end`, follows again."""

    @dataclass
    class Turned(Message):
        """It follows now, or it does not any more."""

        grid: Tail[Any]

    BINDINGS: ClassVar[list[BindingType]] = [Binding("end,G", "follow", "Follow the end", show=False)]
    _is_following = True

    @property
    def is_following(self) -> bool:
        """Whether new rows show at once."""
        return self._is_following

    def grow(self, rows: Sequence[T]) -> None:
        """Take these rows, unless the operator reads."""
        if self._is_following:
            self.show(rows)
            self._to_end()

    def action_follow(self) -> None:
        """Show the end, and what comes, in the order of time."""
        self.sorting = Sorting()
        self._turn(is_following=True)
        self._to_end()

    def watch_sorting(self) -> None:
        """In another order there is no end to be followed."""
        super().watch_sorting()
        if self.sorting != Sorting():
            self._turn(is_following=False)

    def watch_filter(self) -> None:
        """The end of what the filter leaves."""
        super().watch_filter()
        if self._is_following:
            self._to_end()

    def _turn(self, *, is_following: bool) -> None:
        if is_following != self._is_following:
            self._is_following = is_following
            self.post_message(self.Turned(self))

    def _to_end(self) -> None:
        super()._go(len(self.rows) - 1)

    def _go(self, index: int) -> None:
        """Wherever the operator goes: at the last row the rest follows."""
        super()._go(index)
        if index >= len(self.rows) - 1:
            self.action_follow()
        else:
            self._turn(is_following=False)

    def on_resize(self, event: events.Resize) -> None:
        """A line more or less around it does not hide the end. Textual calls the grid's own handler too."""
        if self._is_following:
            self.call_after_refresh(self._to_end)

    def on_mouse_scroll_up(self, _: events.MouseScrollUp) -> None:
        """Whoever scrolls up wants to read what is there."""
        if self.max_scroll_y:
            self._turn(is_following=False)

    def on_mouse_scroll_down(self, _: events.MouseScrollDown) -> None:
        """Whoever scrolls on at the end wants what comes."""
        if self.scroll_offset.y >= self.max_scroll_y:
            self.action_follow()

    def on_scroll_to(self, _: ScrollTo) -> None:
        """So does whoever drags the scrollbar."""
        self._turn(is_following=False)
