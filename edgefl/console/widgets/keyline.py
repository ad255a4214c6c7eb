"""The last line: what keys do here. Where the terminal has no room for all of them, the least telling ones go; none is cut."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from edgefl.console.ink import ink, width

EXPENDABLE = ("pause", "sort", "open", "filter", "app.focus_next", "export", "jump", "logs", "plots")
"""Actions in the order in which they go: the same nearly everywhere, and `?` has all. What changes a federation stays."""


class Keyline(Footer):
    """As many keys as fit whole. Help and quit are always among them."""

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        self._cells = 0

    def compose(self) -> ComposeResult:
        """The keys that fit."""
        self._cells = self.app.size.width
        yield from fitting([key for key in super().compose() if isinstance(key, FooterKey)], self._cells)

    async def on_resize(self, event: events.Resize) -> None:
        """There is room for others."""
        if self._cells not in (0, event.size.width):
            await self.recompose()


def fitting(keys: Sequence[FooterKey], cells: int) -> list[FooterKey]:
    """Those of the keys that stand on a line of `cells` cells, each a cell apart."""
    kept = list(keys)
    for action in EXPENDABLE:
        if sum(_cells(key) + 1 for key in kept) - 1 <= cells:
            break
        kept = [key for key in kept if key.action != action]
    return kept


def _cells(key: FooterKey) -> int:
    return width(ink(f"{key.key_display} {key.description}"))
