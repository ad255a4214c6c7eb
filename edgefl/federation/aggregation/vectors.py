"""Models as one vector: rules work on what devices changed (deltas), not on weights.

In weight space the common part drowns the difference: at |delta|/|w| = 3e-4 a float32 Krum chose 14 of 20 malicious updates,
in delta space none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation import cores

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]
LINE = 64
"""Bytes of a line of the processor's cache."""


def room(count: int, length: int) -> Matrix:
    """An empty matrix for updates, (count, length), each row of which begins with a line of the cache.

    NumPy's own rows begin anywhere: each of a kernel's reads then takes parts of two lines, and products a third longer.
    """
    stride = -(-4 * length // LINE) * LINE
    memory = np.empty(count * stride + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    rows: Matrix = memory[first : first + count * stride].view(np.float32).reshape(count, stride // 4)
    return rows[:, :length]


@dataclass(frozen=True, slots=True)
class Template:
    """The names, shapes and types of a model's arrays, and their places in the vector (by sorted name)."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]

    @classmethod
    def of(cls, arrays: Arrays) -> Template:
        """The template that a global model gives."""
        names = sorted(arrays)
        return cls({name: arrays[name].shape for name in names}, {name: arrays[name].dtype for name in names})

    @property
    def size(self) -> int:
        """Values in the vector, p."""
        return sum(_count(shape) for shape in self.shapes.values())

    def delta(self, arrays: Arrays, start: Arrays, out: Vector | None = None) -> Vector:
        """What changed since `start`, as (p,) float32; into `out` (a row of the stacked updates) when given."""
        vector = np.empty(self.size, np.float32) if out is None else out
        place = 0
        for name, shape in self.shapes.items():
            end = place + _count(shape)
            np.subtract(arrays[name].reshape(-1), start[name].reshape(-1), out=vector[place:end], casting="same_kind")
            place = end
        return vector

    def deltas(self, models: Sequence[Arrays], start: Arrays, out: Matrix | None = None) -> Matrix:
        """What changed in each model since `start`, a row each, (n, p) float32; into `out` when given."""
        stacked = room(len(models), self.size) if out is None else out
        cores.each(lambda row: self.delta(models[row], start, out=stacked[row]), range(len(models)))
        return stacked

    def moved(self, start: Arrays, delta: Vector) -> dict[str, NDArray[Any]]:
        """The model that lies one delta from `start`, in the template's own types."""
        moved: dict[str, NDArray[Any]] = {}
        place = 0
        for name, shape in self.shapes.items():
            end = place + _count(shape)
            moved[name] = (start[name] + delta[place:end].reshape(shape)).astype(self.dtypes[name], copy=False)
            place = end
        return moved


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
