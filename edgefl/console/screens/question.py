"""What every question before an action has: a box that says exactly what will change, and two answers, always in sight."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen, ScreenResultType
from textual.widget import Widget
from textual.widgets import Button, Static


class Question(ModalScreen[ScreenResultType]):
    """title: the box's; what: what will change; yes: the word for doing it."""

    YES_KEY = ""
    NO_KEY = ""
    SUBTITLE = ""

    def __init__(self, title: str, what: str, yes: str) -> None:
        super().__init__()
        self._title = title
        self._what = what
        self._yes = yes

    def compose(self) -> ComposeResult:
        """The question, what must be answered beside yes and no, and the two answers."""
        with Vertical(id="box") as box:
            box.border_title = self._title
            box.border_subtitle = self.SUBTITLE
            with VerticalScroll(can_focus=False):
                yield Static(self._what, id="what", markup=False)
            yield from self.asked()
            with Horizontal():
                yield Button(f"{self._yes}{self.YES_KEY}", id="yes", variant="error", compact=True)
                yield Button(f"Leave it{self.NO_KEY}", id="no", compact=True)

    def asked(self) -> Iterable[Widget]:
        """What stands between the question and its answers."""
        return ()
