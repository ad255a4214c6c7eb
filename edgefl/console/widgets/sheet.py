"""A few lines of facts, as high as they are many."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Size
from textual.strip import Strip

from edgefl.console.ink import EMPTY, Ink
from edgefl.console.widgets.inked import Inked


class Sheet(Inked):
    """Lines of ink."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: tuple[Ink, ...] = ()

    def show(self, lines: Sequence[Ink]) -> None:
        """Take these lines; the layout moves only when their number changes."""
        lines = tuple(lines)
        if lines != self._lines:
            grown = len(lines) != len(self._lines)
            self._lines = lines
            self.refresh(layout=grown)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are."""
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """One line."""
        return self.strip(self._lines[y] if y < len(self._lines) else EMPTY, self.size.width)
