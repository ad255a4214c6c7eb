"""Asks what an export should be."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Button


class Export(ModalScreen[str]):
    """`csv`, `json`, `svg` or `png`; the empty text when the operator thought better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("c", "choose('csv')", "CSV"),
        ("j", "choose('json')", "JSON"),
        ("s", "choose('svg')", "SVG"),
        ("p", "choose('png')", "PNG"),
        ("escape", "choose('')", "Close"),
    ]

    def __init__(self, title: str, *, has_rows: bool, marked: int = 0) -> None:
        super().__init__()
        self._title = title
        self._has_rows = has_rows
        self._rows = f"the {marked} marked rows" if marked > 1 else "the marked row" if marked else "the rows"

    def compose(self) -> ComposeResult:
        """The keys and what they write; each can be clicked."""
        rows = {"csv": f"{self._rows} as CSV", "json": f"{self._rows} as JSON"} if self._has_rows else {}
        every = {**rows, "svg": "the screen as SVG", "png": "the screen as PNG", "": "nothing: close"}
        with Vertical(id="box") as box:
            box.border_title = f"export {self._title}"
            box.border_subtitle = "into the current directory; esc closes"
            for ending, what in every.items():
                key = ending[:1] or "esc"
                yield Button(f"{key:<4}{what}", id=ending or "close", compact=True, action=f"screen.choose('{ending}')")

    def action_choose(self, ending: str) -> None:
        """Close with the choice; what there is nothing of cannot be chosen."""
        if self._has_rows or ending in {"svg", "png", ""}:
            self.dismiss(ending)
