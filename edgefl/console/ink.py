"""Text with meaning instead of colour: what the console draws, before a theme says how a meaning looks.

Everything in here is a value, so that what stands on the screen is decided (and tested) without a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from rich.cells import cell_len, set_cell_size

from edgefl.progress import printable


class Tone(StrEnum):
    """What a piece of text means. No tone is the only carrier of a fact: a word or a sign always says it too."""

    PLAIN = "plain"
    STRONG = "strong"
    MUTED = "muted"
    ACCENT = "accent"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


Ink = tuple[tuple[str, Tone], ...]
"""A line, or a part of one: runs of text with their tones."""
_WORD = re.compile(r"\s+|\S+")

EMPTY: Ink = ()


def ink(text: str, tone: Tone = Tone.PLAIN) -> Ink:
    """One run of text; what in it would steer the terminal is made visible instead."""
    return ((printable(text), tone),) if text else EMPTY


def plain(line: Ink) -> str:
    """The text alone, for filters and exports."""
    return "".join(text for text, _ in line)


def width(line: Ink) -> int:
    """How many terminal cells the line takes."""
    return sum(cell_len(text) for text, _ in line)


def join(parts: Iterable[Ink], between: Ink) -> Ink:
    """The parts that are not empty, with `between` between them."""
    line: Ink = EMPTY
    for part in parts:
        if part:
            line = (*line, *between, *part) if line else part
    return line


def fit(line: Ink, cells: int, *, right: bool = False) -> Ink:
    """The line in exactly `cells` cells: padded (on the left when `right`) or cut, with an ellipsis."""
    missing = cells - width(line)
    if missing == 0:
        return line
    if missing > 0:
        blank = ink(" " * missing)
        return (*blank, *line) if right else (*line, *blank)
    return _cut(line, cells)


def wrap(line: Ink, cells: int, hang: int) -> list[Ink]:
    """The line on as many rows of at most `cells` cells as it takes, broken at spaces; those after the first are `hang` cells in.

    A word that is wider than a row stays whole, to be cut.
    """
    if width(line) <= cells or cells <= 2 * hang:
        return [line]
    rows: list[list[tuple[str, Tone]]] = [[]]
    room = cells
    for text, tone in line:
        for word in _WORD.findall(text):
            if (size := cell_len(word)) > room and rows[-1]:
                rows.append([(" " * hang, Tone.PLAIN)])
                room = cells - hang
                if word.isspace():
                    continue
            rows[-1].append((word, tone))
            room -= size
    return [tuple(row) for row in rows]


def _cut(line: Ink, cells: int) -> Ink:
    if cells <= 0:
        return EMPTY
    kept: list[tuple[str, Tone]] = []
    room = cells - 1
    for text, tone in line:
        size = cell_len(text)
        if size > room:
            kept.append((set_cell_size(text, room) + "…", tone))
            break
        kept.append((text, tone))
        room -= size
    return tuple(kept)
