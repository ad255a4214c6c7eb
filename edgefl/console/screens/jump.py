"""The line that `:` opens: where to go, completed while it is typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

_OFFERED = 8


class Jump(ModalScreen[str]):
    """What was typed when Enter was pressed; the empty text when the operator thought better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("tab", "complete", "Complete", priority=True),
    ]

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__()
        self._places = places
        self._offers: list[str] = []

    def compose(self) -> ComposeResult:
        """One box: the text, and the first of what it may become."""
        with Vertical(id="box") as box:
            box.border_title = "jump"
            box.border_subtitle = "tab completes, enter or a click goes, esc closes"
            yield Input(
                placeholder="fleet   device edge-03   round 12",
                compact=True,
                suggester=SuggestFromList(self._places, case_sensitive=False),
            )
            yield Static(id="offers", markup=False)

    def on_mount(self) -> None:
        """Everything is on offer."""
        self._offer("")

    @on(Input.Changed)
    def _typed(self, message: Input.Changed) -> None:
        self._offer(message.value)

    def _offer(self, typed: str) -> None:
        fits = [place for place in self._places if typed.casefold() in place.casefold()]
        more = f"… and {len(fits) - _OFFERED} more" if len(fits) > _OFFERED else ""
        self._offers = fits[:_OFFERED]
        self.query_one("#offers", Static).update("\n".join([*self._offers, more]).rstrip())

    def on_click(self, event: events.Click) -> None:
        """An offer is gone to."""
        under, _ = self.get_widget_at(event.screen_x, event.screen_y)
        if under.id == "offers" and event.y < len(self._offers):
            self.dismiss(self._offers[event.y])

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        self.dismiss(message.value)

    def action_complete(self) -> None:
        """Take the first offer that begins with what was typed."""
        line = self.query_one(Input)
        first = next((place for place in self._places if place.casefold().startswith(line.value.casefold())), line.value)
        line.value = first
        line.cursor_position = len(first)

    def action_leave(self) -> None:
        """Go nowhere."""
        self.dismiss("")
