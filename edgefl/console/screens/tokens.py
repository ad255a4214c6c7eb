"""Shows enrolment tokens, once: whoever closes this has seen them for the last time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from edgefl.layout import ENROL
from edgefl.operations.enrol import Token


class Tokens(ModalScreen[None]):
    """given: the tokens, each of one device. Only esc and the mouse close it: Enter, often pressed twice, does not."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [("y", "copy", "Copy"), ("escape", "close", "Close")]

    def __init__(self, given: Sequence[Token]) -> None:
        super().__init__()
        self._given = given

    def compose(self) -> ComposeResult:
        """Each device's token and how long it counts, and what to do with it there."""
        with Vertical(id="box") as box:
            box.border_title = "Tokens" if len(self._given) > 1 else "Token"
            box.border_subtitle = "not shown again"
            with VerticalScroll(can_focus=False):
                yield Static("\n\n".join(map(_shown, self._given)), id="what", markup=False)
            yield Static(f"next: on the device, as root: {ENROL}", id="next", markup=False)
            yield Button("y   copy", compact=True, action="screen.copy")
            yield Button("esc close", compact=True, action="screen.close")

    def action_copy(self) -> None:
        """Give the terminal's clipboard the tokens, one a line, with their devices where there are several."""
        one = len(self._given) == 1
        self.app.copy_to_clipboard("\n".join(token.text if one else f"{token.device} {token.text}" for token in self._given))
        self.notify("copied", markup=False)

    def action_close(self) -> None:
        """They are gone."""
        self.dismiss()


def _shown(token: Token) -> str:
    return f"{token.text}\n  for {token.device} alone, once, until {token.until.astimezone():%H:%M}"
