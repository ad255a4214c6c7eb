"""The line that `/` opens: a filter, how many rows it leaves, and how many are marked."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label


class FilterLine(Horizontal):
    """Hidden until it is opened; stays while it holds text, so that a filtered table never looks like the whole one.

    Where rows are marked, it says how many, with a filter or without.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "clear", "Clear the filter", show=False)]

    class Changed(Message):
        """The filter's text is another."""

        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    class Left(Message):
        """The operator is done typing."""

        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    _told = (0, 0, 0)

    def compose(self) -> ComposeResult:
        """A sign, the text, the count."""
        yield Label("/", id="sign")
        yield Input(placeholder="text   !text   state:offline", compact=True, select_on_focus=False)
        yield Label(id="count")

    def open(self) -> None:
        """Show the line and take the keyboard."""
        self.add_class("open")
        self._count()
        self.query_one(Input).focus()

    def tell(self, left: int, total: int, marked: int = 0) -> None:
        """Say how many rows the filter leaves, and how many are marked."""
        if self._told != (left, total, marked):
            self._told = (left, total, marked)
            self.set_class(bool(marked), "marked")
            self._count()

    def _count(self) -> None:
        left, total, marked = self._told
        count = f"{left} of {total}" if self.has_class("open") else ""
        marks = f"● {marked} marked, esc unmarks" if marked else ""
        self.query_one("#count", Label).update(" · ".join(filter(None, [count, marks])))

    @property
    def is_filtering(self) -> bool:
        """Whether the filter holds any text."""
        return bool(self.query_one(Input).value.strip())

    def action_clear(self) -> None:
        """No filter; the line goes away."""
        self.query_one(Input).value = ""
        self._leave()

    @on(Input.Changed)
    def _changed(self, message: Input.Changed) -> None:
        message.stop()
        self.post_message(self.Changed(message.value))

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self._leave()

    def _leave(self) -> None:
        self.set_class(self.is_filtering, "open")
        self._count()
        self.post_message(self.Left(self.query_one(Input).value))
