"""A text area for YAML: keys stand out, comments step back, and lines with a problem are marked."""

from __future__ import annotations

import re
from collections.abc import Collection

from rich.style import Style
from textual import events
from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

_KEY = re.compile(r"^\s*(?:- )?\s*([\w.-]+):")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_LOOKS = TextAreaTheme(
    "edgefl",
    syntax_styles={"comment": Style(dim=True), "key": Style(bold=True), "problem": Style(underline=True, bold=True, color="red")},
)


class YamlArea(TextArea):
    """site.yaml as it is typed, once it is read. Tab leaves it; Enter keeps the indentation."""

    def __init__(self) -> None:
        super().__init__(read_only=True, show_line_numbers=True, soft_wrap=False, tab_behavior="focus", compact=True)
        self._problems: frozenset[int] = frozenset()

    def on_mount(self) -> None:
        """Weights instead of colours: they hold in every theme."""
        self.register_theme(_LOOKS)
        self.theme = _LOOKS.name

    def mark(self, lines: Collection[int]) -> None:
        """Mark these lines (counted from 1), and no others."""
        if self._problems != (problems := frozenset(lines)):
            self._problems = problems
            self._build_highlight_map()
            self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Enter begins a line under the present one's first character."""
        if event.key != "enter" or self.read_only:
            return
        event.stop()
        event.prevent_default()
        row, column = self.cursor_location
        before = self.document.get_line(row)[:column]
        self.insert("\n" + before[: len(before) - len(before.lstrip(" "))])

    def _build_highlight_map(self) -> None:
        """What Textual asks tree-sitter for where that is installed; a site.yaml needs less."""
        self._line_cache.clear()
        self._highlights.clear()
        problems: frozenset[int] = getattr(self, "_problems", frozenset())  # Textual's own beginning asks before ours
        for row, line in enumerate(self.document.lines):
            if row + 1 in problems and line.strip():
                self._highlights[row].append((len(line) - len(line.lstrip()), None, "problem"))
            elif comment := _COMMENT.search(line):
                self._highlights[row].append((len(line[: comment.start()].encode()), None, "comment"))
            if (key := _KEY.match(line)) and row + 1 not in problems:
                self._highlights[row].append((key.start(1), key.end(1), "key"))
