"""A few lines of facts, as high as they are many; what is too long for the terminal goes on below."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Size
from textual.strip import Strip

from edgefl.console.ink import EMPTY, Ink, wrap
from edgefl.console.widgets.inked import Inked


class Sheet(Inked):
    """Lines of ink; hang: how far in a line goes on."""

    def __init__(self, *, hang: int = 3) -> None:
        super().__init__()
        self._hang = hang
        self._lines: tuple[Ink, ...] = ()
        self._rows: tuple[int, list[Ink]] = (0, [])

    def show(self, lines: Sequence[Ink]) -> None:
        """Take these lines; the layout moves only when they take another number of rows."""
        lines = tuple(lines)
        if lines != self._lines:
            before, self._lines = self._wrapped(self.size.width), lines
            self._rows = (0, [])
            self.refresh(layout=len(before) != len(self._wrapped(self.size.width)))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows as the lines take."""
        return len(self._wrapped(width))

    def render_line(self, y: int) -> Strip:
        """One row."""
        rows = self._wrapped(self.size.width)
        return self.strip(rows[y] if y < len(rows) else EMPTY, self.size.width)

    def _wrapped(self, cells: int) -> list[Ink]:
        if self._rows[0] != cells or not cells:
            self._rows = (cells, [row for line in self._lines for row in wrap(line, cells, self._hang)])
        return self._rows[1]
