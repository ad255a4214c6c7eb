"""A line with a band around it, drawn in braille over eighth blocks: eight times finer than characters."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from edgefl.console.ink import Ink, Tone, fit, ink, width
from edgefl.console.widgets.canvas import Canvas, Series, Shade, ticks
from edgefl.console.widgets.inked import Inked

AXIS = 6
"""Cells of the labels at the left, the axis included."""


class Plot(Inked):
    """One series over rounds, with its title, its axis and the band of the devices."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"plot--line", "plot--band", "plot--level", "plot--mark"}

    def __init__(
        self,
        title: str,
        *,
        floor: float | None = None,
        ceiling: float | None = None,
        note: str = "▆ devices, middle 80 %",
        id: str | None = None,  # noqa: A002  # as Textual's widgets call it
    ) -> None:
        super().__init__(id=id)
        self._note = note
        self._title = title
        self._floor = floor
        self._ceiling = ceiling
        self._latest: Ink = ()
        self._series = Series()
        self._lines: list[Strip] | None = None

    def show(self, series: Series, latest: Ink) -> None:
        """Draw this series; `latest` stands beside the title."""
        if series != self._series or latest != self._latest:
            self._series, self._latest = series, latest
            self._lines = None
            self.refresh()

    def notify_style_update(self) -> None:
        """A theme changed: draw again."""
        super().notify_style_update()
        self._lines = None

    def on_resize(self) -> None:
        """The canvas has another size."""
        self._lines = None

    def render_line(self, y: int) -> Strip:
        """One line of the finished drawing."""
        if self._lines is None:
            self._lines = self._draw()
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.size.width, self.rich_style)

    def _draw(self) -> list[Strip]:
        cells, lines = self.size
        rows, columns = lines - 2, cells - AXIS - 1
        if rows < 2 or columns < 8:
            return [self.strip(self._heading(cells), cells)]
        canvas = Canvas(self._series, columns, rows, floor=self._floor, ceiling=self._ceiling)
        styles = self._styles()
        strips = [self.strip(self._heading(cells), cells)]
        for row in range(rows):
            label = canvas.labels.get(row, "")
            axis = ink(f"{label:>{AXIS - 1}}", Tone.MUTED) + ink("┤" if label else "│", Tone.MUTED)
            left = self.strip(axis, AXIS)
            strips.append(Strip.join([left, _painted(canvas, row, styles), self.strip((), 1)]))
        strips.append(self.strip(self._rounds(columns), cells))
        return strips

    def _heading(self, cells: int) -> Ink:
        left: Ink = (*ink(" " * AXIS), *ink(self._title, Tone.STRONG), *ink("  "), *self._latest)
        told = self._series.band or self._series.level is not None
        note = ink(f"{self._note} ", Tone.MUTED) if told and self._note else ()
        room = cells - width(left) - width(note)
        return (*left, *ink(" " * room), *note) if room >= 2 else fit(left, cells)

    def _rounds(self, columns: int) -> Ink:
        """The x axis' labels, at the cells where their rounds are."""
        line = [" "] * (columns + 1)
        first, last = self._series.span
        taken = -2
        for tick in ticks(first, last, max(2, columns // 10), whole=True):
            text = f"{tick:.0f}"
            at = round((tick - first) / max(1, last - first) * (columns - 1)) - len(text) // 2
            at = max(0, min(at, len(line) - len(text)))
            if at > taken + 1:
                line[at : at + len(text)] = text
                taken = at + len(text)
        return (*ink(" " * AXIS), *ink("".join(line), Tone.MUTED))

    def _styles(self) -> dict[Shade, Style]:
        ground = self.rich_style
        band = self.get_component_rich_style("plot--band").color
        stroke = self.get_component_rich_style("plot--line").color
        return {
            Shade.NONE: ground,
            Shade.LINE: ground + Style(color=stroke),
            Shade.BAND: ground + Style(bgcolor=band),
            Shade.LINE_ON_BAND: Style(color=stroke, bgcolor=band),
            Shade.BAND_TOP: ground + Style(color=band),
            Shade.BAND_BOTTOM: Style(color=ground.bgcolor, bgcolor=band),
            Shade.LEVEL: ground + Style(color=self.get_component_rich_style("plot--level").color),
            Shade.MARK: ground + Style(color=self.get_component_rich_style("plot--mark").color, bold=True),
        }


def _painted(canvas: Canvas, row: int, styles: dict[Shade, Style]) -> Strip:
    """A row of the canvas, a segment for each run of one shade."""
    runs = groupby(canvas.row(row), key=itemgetter(1))
    return Strip([Segment("".join(sign for sign, _ in cells), styles[shade]) for shade, cells in runs], canvas.columns)
