"""Something that has one line in a table, whole: every field of it, long values over several lines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgefl.console.ink import Tone, ink
from edgefl.console.live import Frame
from edgefl.console.view import GridView
from edgefl.console.widgets.columns import GAP, Column
from edgefl.console.widgets.grid import EDGES, Grid
from edgefl.events.schema import Event

_NARROW = 40
_WIDEST = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """A line of a field's value; `name` is empty but on the first."""

    key: str
    name: str
    text: str
    value: str


class Whole(GridView):
    """Fields with their values."""

    WHAT = "Every field of what was opened; y copies a value, long ones whole."

    def __init__(self, title: str, fields: Sequence[tuple[str, str]]) -> None:
        super().__init__(Grid[Part](COLUMNS, lambda part: part.key))
        self._title = title
        self._content = tuple(fields)
        self._cells = 0

    @property
    def title(self) -> str:
        """What was opened."""
        return self._title

    def show(self, _: Frame) -> None:
        """The content never changes; how it is broken into lines depends on the width."""
        self._settle()

    def on_resize(self) -> None:
        """Break the values anew."""
        self._settle()

    def copied(self, row: Part) -> str:
        """The value, whole."""
        return row.value

    def _settle(self) -> None:
        names = max((len(name) for name, _ in self._content), default=0)
        cells = max(_NARROW, self.size.width - EDGES - max(names, len("FIELD") + 1) - GAP)
        if cells != self._cells:
            self._cells = cells
            self.grid.show(list(parts(self._content, cells)))


def parts(fields: Iterable[tuple[str, str]], cells: int) -> Iterable[Part]:
    """The lines of all values in this width; a value's own line breaks stay."""
    for name, value in fields:
        lines = [part for line in value.splitlines() for part in textwrap.wrap(line, cells) or [""]]
        for number, text in enumerate(lines or [""]):
            yield Part(f"{name}/{number}", "" if number else name, text, value)


def of_event(event: Event) -> list[tuple[str, str]]:
    """An event with its envelope, its fields as JSON where they are more than a text."""
    envelope = {"seq": event.seq, "at": event.at.isoformat(), "run": event.run, "round": event.round or ""}
    body = event.body.model_dump(mode="json")
    chained = {"version": event.version, "hash": event.hash, "previous": event.previous}
    return [(name, _text(value)) for name, value in {**envelope, **body, **chained}.items() if value not in ("", None)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


COLUMNS: tuple[Column[Part], ...] = (
    Column("field", "FIELD", 5, lambda part, _: ink(part.name, Tone.MUTED), lambda part: part.name, right=False, whole=True),
    Column(
        "value", "VALUE", _NARROW, lambda part, _: ink(part.text), lambda part: part.value, right=False, most=_WIDEST,
        raw=lambda part: part.text,
    ),
)  # fmt: skip
