"""Rows that are made when somebody looks at them: of a thousand devices a screen shows forty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

Part = TypeVar("Part")
Row = TypeVar("Row")


class Rows(Sequence[Row], Generic[Part, Row]):
    """A row for each part, made anew each time that it is asked for."""

    def __init__(self, parts: Sequence[Part], make: Callable[[Part], Row]) -> None:
        self._parts = parts
        self._make = make

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._make(part) for part in self._parts[index]]
        return self._make(self._parts[index])
