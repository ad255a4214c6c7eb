"""One node of an operation: what was said of it, the module's own result, and the likely fix."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from edgefl.console.live import Frame
from edgefl.console.provisioning.lines import Line
from edgefl.console.provisioning.looks import story
from edgefl.console.provisioning.tree import Fault
from edgefl.console.view import View
from edgefl.console.widgets.sheet import Sheet


class OutcomePage(View):
    """A node as it was when it was opened."""

    WHAT = "What came of one part of the operation: why it failed, what the module said, and the likely fix."

    def __init__(self, line: Line, fault: Fault | None) -> None:
        super().__init__()
        self._line = line
        self._fault = fault
        self._sheet = Sheet()
        self._scroll = VerticalScroll(self._sheet)

    @property
    def title(self) -> str:
        """The node's name."""
        return self._line.name

    def compose(self) -> ComposeResult:
        """One sheet, which scrolls."""
        yield self._scroll

    def take_focus(self) -> None:
        """The arrows scroll."""
        self._scroll.focus()

    def show(self, frame: Frame) -> None:
        """What was said does not change."""
        self._wrap()

    def on_resize(self) -> None:
        """Another width wraps it anew."""
        self._wrap()

    def _wrap(self) -> None:
        self._sheet.show(story(self._line, self._fault, self._scroll.size.width - 2))
