"""The columns that show a round as a waterfall: the coordinator's stages and every device's part, one below the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from edgefl.console import figures
from edgefl.console.ink import EMPTY, Ink, Tone, ink
from edgefl.console.pages.updates import verdict
from edgefl.console.widgets.columns import Column
from edgefl.monitor.round import RoundRow
from edgefl.monitor.timeline import Part, Stretch, hull, timeline

_LOOKS = {"start": ("─", Tone.MUTED), "train": ("━", Tone.ACCENT), "upload": ("╍", Tone.PLAIN)}
_STAGE, _LOST, _WAITS = ("━", Tone.STRONG), ("╌", Tone.WARN), ("┄", Tone.MUTED)
LEGEND: Ink = (
    *ink("━ ", Tone.STRONG), *ink("stage  ", Tone.MUTED), *ink("─ ", Tone.MUTED), *ink("start  ", Tone.MUTED),
    *ink("━ ", Tone.ACCENT), *ink("train  ", Tone.MUTED), *ink("╍ ", Tone.PLAIN), *ink("upload  ", Tone.MUTED),
    *ink("╌ ", Tone.WARN), *ink("no update", Tone.MUTED),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fall:
    """One line of the waterfall. whole: from where to where its time is drawn, the same for all lines of a round."""

    stretch: Stretch
    whole: tuple[datetime, datetime]

    @property
    def key(self) -> str:
        """What tells a device from a stage of its name."""
        return self.stretch.name if self.stretch.update is not None else f"/{self.stretch.name}"


def falls(row: RoundRow, now: datetime) -> list[Fall]:
    """The round's lines, from the first that is known."""
    stretches = timeline(row, now)
    whole = hull(stretches) if stretches else (now, now)
    return [Fall(one, whole) for one in stretches]


def bar(fall: Fall, cells: int) -> Ink:
    """The stretch in its place on a line of `cells` cells; whatever took time at all is at least one cell long."""
    one = fall.stretch
    if one.update is None:
        pieces: list[tuple[Part, tuple[str, Tone]]] = [(one, _STAGE)]
    elif one.parts:
        pieces = [(part, _LOOKS[part.name]) for part in one.parts]
    else:
        is_lost = bool(one.update.dropped or one.update.rejected)
        pieces = [(one, _LOST if is_lost else _WAITS)]
    line = [(" ", Tone.PLAIN)] * cells
    for part, look in pieces:
        if part.seconds > 0:
            first = min(_cell(part.begin, fall.whole, cells), cells - 1)
            last = max(_cell(part.end, fall.whole, cells), first + 1)
            line[first:last] = [look] * (last - first)
    drawn: Ink = EMPTY
    for sign, tone in line:
        drawn = (*drawn[:-1], (drawn[-1][0] + sign, tone)) if drawn and drawn[-1][1] is tone else (*drawn, (sign, tone))
    return drawn


def _cell(at: datetime, whole: tuple[datetime, datetime], cells: int) -> int:
    begin, end = whole
    length = (end - begin).total_seconds()
    return round((at - begin).total_seconds() / length * cells) if length > 0 else 0


def _name(fall: Fall, _: int) -> Ink:
    return ink(fall.stretch.name, Tone.MUTED if fall.stretch.update is None else Tone.STRONG)


def _verdict(fall: Fall, _: int) -> Ink:
    return verdict(fall.stretch.update) if fall.stretch.update is not None else EMPTY


def _part(name: str, importance: int) -> Column[Fall]:
    def seconds(fall: Fall) -> float | None:
        return next((part.seconds for part in fall.stretch.parts if part.name == name), None)

    def draw(fall: Fall, _: int) -> Ink:
        return ink(figures.seconds(value), Tone.PLAIN) if (value := seconds(fall)) is not None else EMPTY

    return Column(name, name.upper(), 6, draw, seconds, importance, descending=True)


WATERFALL: tuple[Column[Fall], ...] = (
    Column("what", "WHAT", 9, _name, lambda fall: fall.stretch.name, right=False, whole=True),
    Column("time", "TIME", 24, bar, lambda fall: fall.stretch.begin, right=False, most=1000, raw=lambda f: f.stretch.seconds),
    Column(
        "seconds", "TOOK", 6, lambda fall, _: ink(figures.seconds(fall.stretch.seconds)), lambda fall: fall.stretch.seconds,
        descending=True,
    ),
    _part("start", 3),
    _part("train", 1),
    _part("upload", 2),
    Column("verdict", "VERDICT", 13, _verdict, lambda fall: fall.stretch.update and fall.stretch.update.verdict, 4, right=False),
)  # fmt: skip
