"""The help for what is on the screen, made from its own bindings."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class Help(ModalScreen[None]):
    """Keys and what they do; any of esc, ? and q closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,question_mark,q", "dismiss", "Close")]

    def __init__(self, title: str, what: str, keys: list[tuple[str, str]]) -> None:
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
                yield Static(self._table())

    def _table(self) -> Text:
        cells = max((len(key) for key, _ in self._keys_told), default=0) + 2
        table = Text()
        for key, does in self._keys_told:
            table.append(f"{key:>{cells}}", "bold").append(f"   {does}\n")
        return table


def told(active: dict[str, ActiveBinding], display: dict[str, str]) -> list[tuple[str, str]]:
    """The keys of each action, joined, in the order in which the screen knows them.

    display: how a key is written, where its name is not what stands on the keyboard.
    """
    keys: dict[str, list[str]] = {}
    for key, binding in active.items():
        does = told_of(binding)
        if binding.enabled and does:
            keys.setdefault(does, []).append(display.get(key, key))
    return [(" ".join(shown), does) for does, shown in keys.items()]


def told_of(active: ActiveBinding) -> str:
    """What a key does, in words; empty for keys that speak for themselves."""
    return active.binding.tooltip or active.binding.description
