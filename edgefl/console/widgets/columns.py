"""The columns of a grid, and which of them a width has room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from rich.cells import cell_len

from edgefl.console.ink import Ink, width

T = TypeVar("T")
GAP = 2
WIDEST_GAP = 4


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """How one field of a row is named, drawn and ordered.

    key: its name for `field:value` and for sorting.
    cells: the width it needs; `most` is what it may grow to where there is room; `whole` makes it as wide as its widest cell.
    draw: the cell of a row in a given width.
    order: what rows are sorted by; None sorts last in either direction.
    raw: what an export says where that is not what rows are sorted by: a text, a number, None, or a sequence of those.
    importance: 0 is always there; of the others the largest goes first when the width is short.
    ages: whether its text changes with time alone, while the row stays equal to itself; a filter finds it by its key only.
    """

    key: str
    title: str
    cells: int
    draw: Callable[[T, int], Ink]
    order: Callable[[T], Any]
    importance: int = 0
    right: bool = True
    most: int = 0
    whole: bool = False
    descending: bool = False
    raw: Callable[[T], Any] | None = None
    ages: bool = False

    def value(self, row: T) -> Any:
        """The field's value in a row, for other programs."""
        return (self.raw or self.order)(row)


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A column with the width it got and the blank after it."""

    column: Column[T]
    cells: int
    gap: int


def widened(column: Column[T], rows: Iterable[T]) -> Column[T]:
    """The column as wide as these rows need it, when it wants to be `whole`: names must not be cut to the same few letters."""
    if not column.whole:
        return column
    return replace(column, cells=max((width(column.draw(row, column.cells)) for row in rows), default=column.cells))


def place(columns: Sequence[Column[T]], cells: int) -> tuple[Placed[T], ...]:
    """The columns that fit into `cells`, in their order; what is left over goes to those that can grow, then to gaps."""
    chosen = list(columns)
    while chosen and _needs(chosen) > cells:
        least = max(chosen, key=lambda column: column.importance)
        if least.importance == 0:
            break
        chosen.remove(least)
    spare = max(0, cells - _needs(chosen))
    widths = {column.key: _least(column) for column in chosen}
    while growing := [column for column in chosen if spare and widths[column.key] < column.most][:spare]:
        for column in growing:
            widths[column.key] += 1
        spare -= len(growing)
    gap = min(WIDEST_GAP, GAP + spare // max(1, len(chosen) - 1))
    last = chosen[-1:]
    return tuple(Placed(column, widths[column.key], 0 if [column] == last else gap) for column in chosen)


def _least(column: Column[T]) -> int:
    """The width a column needs: its own, or its title's with the sign of sorting beside it."""
    return max(column.cells, cell_len(column.title) + 1)


def _needs(columns: Sequence[Column[T]]) -> int:
    return sum(_least(column) for column in columns) + GAP * (len(columns) - 1)
