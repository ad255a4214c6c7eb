"""The question before an action that must be accounted for: what will change, and why."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static


class Reason(ModalScreen[str]):
    """The reason that was given; the empty text when the operator thought better of it. Without a reason nothing is done."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it")]

    def __init__(self, title: str, what: str, yes: str) -> None:
        super().__init__()
        self._title = title
        self._what = what
        self._yes = yes

    def compose(self) -> ComposeResult:
        """The question, a line for the reason, and two answers."""
        with Vertical(id="box") as box:
            box.border_title = self._title
            box.border_subtitle = "enter does it, esc leaves it"
            yield Static(self._what, id="what", markup=False)
            yield Input(placeholder="why, for the audit log", compact=True, max_length=500)
            with Horizontal():
                yield Button(self._yes, id="yes", variant="error", compact=True)
                yield Button("Leave it", id="no", compact=True)

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
