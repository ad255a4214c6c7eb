"""The arithmetic of a plot: values to braille dots and eighth blocks. Pure: no terminal, no theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

EIGHTHS = " ▁▂▃▄▅▆▇█"
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille's dots by row (from the top) and column."""


class Shade(Enum):
    """What a cell shows: the line, the band, an edge of the band, or both; the level, or a mark on it."""

    NONE = auto()
    LINE = auto()
    BAND = auto()
    LINE_ON_BAND = auto()
    BAND_TOP = auto()
    BAND_BOTTOM = auto()
    LEVEL = auto()
    MARK = auto()


@dataclass(frozen=True, slots=True)
class Series:
    """points: (x, y), by x; band: (x, low, high), by x.

    ahead: from which x on the line is a forecast, and dashed. level: a y that nothing should pass; marks: where something does.
    """

    points: tuple[tuple[float, float], ...] = ()
    band: tuple[tuple[float, float, float], ...] = ()
    ahead: float = math.inf
    level: float | None = None
    marks: tuple[float, ...] = ()

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last x; (0, 1) when there is nothing."""
        xs = [*(point[0] for point in (*self.points, *self.band)), *self.marks]
        return (min(xs), max(xs)) if xs else (0.0, 1.0)

    @property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest y; (0, 1) when there is nothing."""
        ys = [y for _, y in self.points] + [y for _, *ends in self.band for y in ends]
        ys += [] if self.level is None else [self.level]
        return (min(ys), max(ys)) if ys else (0.0, 1.0)


class Canvas:
    """A series on `columns` x `rows` cells.

    labels: the y axis' labels by row. Values are clipped to `floor` and `ceiling` where they are given.
    """

    def __init__(
        self, series: Series, columns: int, rows: int, *, floor: float | None = None, ceiling: float | None = None
    ) -> None:
        self.columns = columns
        self.rows = rows
        self._first, self._last = series.span
        low, high = series.extent
        marks = ticks(low, high, max(2, rows // 3))
        step = marks[1] - marks[0]
        self._low = _bounded(marks[0] if marks[0] <= low else marks[0] - step, floor, ceiling)
        self._high = _bounded(marks[-1] if marks[-1] >= high else marks[-1] + step, floor, ceiling)
        self.labels = self._label(step)
        self._dots = [[0] * columns for _ in range(rows)]
        self._edges = self._band(series.band)
        self._stroke(series.points, series.ahead)
        self._level = None if series.level is None else min(rows - 1, int(self._height(series.level) * rows))
        self._marks = {min(columns - 1, round(self._x(mark) * (columns - 1))) for mark in series.marks}

    def row(self, row: int) -> list[tuple[str, Shade]]:
        """The cells of one row, from the left."""
        return [self._cell(row, column) for column in range(self.columns)]

    def _label(self, step: float) -> dict[int, str]:
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
        count = round((self._high - self._low) / step)
        marks = [self._low + index * step for index in range(count + 1)]
        return {min(self.rows - 1, int(self._height(mark) * self.rows)): f"{mark:.{digits}f}" for mark in reversed(marks)}

    def _height(self, y: float) -> float:
        """Distance from the top as a share of the canvas."""
        return min(1.0, max(0.0, (self._high - y) / ((self._high - self._low) or 1.0)))

    def _x(self, x: float) -> float:
        """Distance from the left as a share of the canvas."""
        return (x - self._first) / ((self._last - self._first) or 1.0)

    def _stroke(self, points: Sequence[tuple[float, float]], ahead: float) -> None:
        """Dots along the straight lines between the points; of a forecast every other cell."""
        across, down = self.columns * 2 - 1, self.rows * 4 - 1
        places = [(self._x(x) * across, self._height(y) * down, x >= ahead) for x, y in points]
        for (x0, y0, is_ahead), (x1, y1, _) in zip(places, places[1:] or places, strict=False):
            steps = max(1, math.ceil(max(abs(x1 - x0), abs(y1 - y0))))
            for step in range(steps + 1):
                x, y = round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)
                if not is_ahead or (x // 2 + y // 4) % 2:
                    self._dots[y // 4][x // 2] |= DOTS[y % 4][x % 2]

    def _band(self, band: Sequence[tuple[float, float, float]]) -> list[tuple[int, int] | None]:
        """For each column the band's top and bottom in eighths of a row from the top; None outside of it."""
        edges: list[tuple[int, int] | None] = [None] * self.columns
        places = [(self._x(x) * (self.columns - 1), self._height(high), self._height(low)) for x, low, high in band]
        for (x0, top0, bottom0), (x1, top1, bottom1) in pairwise(places):
            for column in range(math.ceil(x0), math.floor(x1) + 1):
                share = (column - x0) / ((x1 - x0) or 1.0)
                top, bottom = top0 + (top1 - top0) * share, bottom0 + (bottom1 - bottom0) * share
                edges[column] = (round(top * self.rows * 8), round(bottom * self.rows * 8))
        return edges

    def _cell(self, row: int, column: int) -> tuple[str, Shade]:
        dots = self._dots[row][column]
        covered = self._covered(row, column)
        if row == self._level:
            return ("✖", Shade.MARK) if column in self._marks else ("╌", Shade.LEVEL)
        if dots:
            return chr(0x2800 + dots), Shade.LINE_ON_BAND if covered is not None and covered[1] >= 4 else Shade.LINE
        if covered is None:
            return " ", Shade.NONE
        from_top, height = covered
        if height == 8:
            return " ", Shade.BAND
        if from_top:
            return EIGHTHS[height], Shade.BAND_TOP
        return EIGHTHS[8 - height], Shade.BAND_BOTTOM

    def _covered(self, row: int, column: int) -> tuple[int, int] | None:
        """How far below the cell's top the band begins, and how high it is, in eighths; None where there is no band."""
        edge = self._edges[column]
        if edge is None:
            return None
        top, bottom = max(edge[0], row * 8), min(edge[1], row * 8 + 8)
        return (top - row * 8, bottom - top) if bottom > top else None


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """At least two round numbers from `low` to about `high`, at most `most` where that is possible (1-2-5 steps)."""
    spread = high - low
    if spread <= 0:
        spread = abs(high) * 0.1 or 1.0
    raw = spread / max(1, most)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    step = max(1.0, round(step)) if whole else step
    first = math.ceil(low / step - 1e-9) if whole else math.floor(low / step + 1e-9)
    last = math.floor(high / step + 1e-9)
    marks = [index * step for index in range(first, max(last, first + 1) + 1)]
    return [mark for mark in marks if not whole or mark <= high] or [low]


def _bounded(value: float, floor: float | None, ceiling: float | None) -> float:
    if floor is not None:
        value = max(floor, value)
    return min(ceiling, value) if ceiling is not None else value
