"""The help for what is on the screen, made from its own bindings."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS = {
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "escape": "esc",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "plus": "+",
    "minus": "-",
    "pagedown": "pgdn",
    "pageup": "pgup",
}
"""How a key is written, where its name is not what stands on the keyboard."""


class Help(ModalScreen[str]):
    """Keys and what they do; any of esc, ? and q closes it, and so does a click: on a line, to press its key.

    keys: as they are written, what they do, and one of them as Textual calls it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [("escape,question_mark,q", "dismiss('')", "Close")]

    def __init__(self, title: str, what: str, keys: list[tuple[str, str, str]]) -> None:
        super().__init__()
        self._title = title
        self._what = what
        self._keys_told = keys

    def compose(self) -> ComposeResult:
        """One box, which scrolls where the terminal is too low for it."""
        with Vertical(id="box") as box:
            box.border_title = self._title
            box.border_subtitle = "esc closes"
            if self._what:
                yield Static(self._what, id="what")
            with VerticalScroll():
                yield Static(self._table(), id="keys")

    def on_click(self, event: events.Click) -> None:
        """The key of the line under the mouse is pressed, as soon as the screen behind has the keyboard again."""
        under, _ = self.get_widget_at(event.screen_x, event.screen_y)
        lines = self._keys_told if under.id == "keys" else []
        self.dismiss(lines[event.y][2] if event.y < len(lines) else "")

    def _table(self) -> Text:
        cells = max((len(key) for key, *_ in self._keys_told), default=0) + 2
        table = Text(no_wrap=True, overflow="ellipsis")
        for key, does, _ in self._keys_told:
            table.append(f"{key:>{cells}}", "bold").append(f"   {does}\n")
        return table


def told(active: dict[str, ActiveBinding]) -> list[tuple[str, str, str]]:
    """The keys of each action as they are written, what it does, and its first key: what the footer has before all the rest."""
    keys: dict[str, list[str]] = {}
    for key, binding in sorted(active.items(), key=lambda bound: not bound[1].binding.show):
        does = told_of(binding)
        if binding.enabled and does:
            keys.setdefault(does, []).append(key)
    return [(" ".join(KEYS.get(key, key) for key in named), does, named[0]) for does, named in keys.items()]


def told_of(active: ActiveBinding) -> str:
    """What a key does, in words; empty for keys that speak for themselves."""
    return active.binding.tooltip or active.binding.description
