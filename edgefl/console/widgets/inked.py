"""The base of the console's own widgets: they draw `Ink` line by line in the theme's colours."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from edgefl.console.ink import Ink, Tone, fit


class Inked(Widget):
    """Turns tones into styles; the stylesheet says how each tone looks (`.ink--good`)."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"ink--{tone}" for tone in Tone}
    _styles_of_tones: dict[tuple[Tone, Style | None], Style] | None = None

    def strip(self, line: Ink, cells: int, over: Style | None = None) -> Strip:
        """The line as exactly `cells` cells; `over` is what lies under all of it, e.g. a cursor's background."""
        return Strip([Segment(text, self._style(tone, over)) for text, tone in fit(line, cells)], cells)

    def notify_style_update(self) -> None:
        """A theme, a class or the focus changed: styles are worked out again."""
        super().notify_style_update()
        self._styles_of_tones = None

    def _style(self, tone: Tone, over: Style | None) -> Style:
        """How a tone looks here; kept, since working it out costs more than all the rest of drawing a line."""
        known = self._styles_of_tones
        if known is None:
            known = self._styles_of_tones = {}
        style = known.get((tone, over))
        if style is None:
            full = self.get_component_rich_style(f"ink--{tone}")
            ground = self.rich_style if over is None else self.rich_style + over
            style = known[tone, over] = ground + Style(color=full.color, bold=full.bold)
        return style
