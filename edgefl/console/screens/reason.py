"""The question before an action that must be accounted for: what will change, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Button, Input

from edgefl.console.screens.question import Question


class Reason(Question[str]):
    """The reason that was given; the empty text when the operator thought better of it. Without a reason nothing is done."""

    SUBTITLE = "enter does it, esc leaves it"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it")]

    def asked(self) -> Iterable[Widget]:
        """A line for the reason."""
        yield Input(placeholder="why, for the audit log", compact=True, max_length=500)

    def on_mount(self) -> None:
        """The reason is what is missing."""
        self.query_one(Input).focus()

    def action_leave(self) -> None:
        """Do nothing."""
        self.dismiss("")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._answer()

    @on(Button.Pressed)
    def _pressed(self, message: Button.Pressed) -> None:
        if message.button.id == "yes":
            self._answer()
        else:
            self.dismiss("")

    def _answer(self) -> None:
        line = self.query_one(Input)
        if why := line.value.strip():
            self.dismiss(why)
        else:
            self.query_one("#box").border_subtitle = "say why first"
            line.focus()
