"""One pass over the updates that serves them all: the matrix of their inner products.

Distances, norms, cosines, Krum's scores, neighbours and the guard's evidence are all n x n algebra on it; the updates
themselves are read once here and once more for the final sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation import cores, kernels
from edgefl.federation.aggregation.vectors import LINE, Matrix

Square = NDArray[np.float64]
Part = TypeVar("Part")
Real = TypeVar("Real", np.float32, np.float64)
CHUNK = 1 << 16
"""Columns per product of BLAS's: float32 within a chunk (relative error about 1e-6), float64 between chunks."""
KERNEL_CHUNK = 1 << 14
"""Columns per product of the compiled kernel's: one core's share."""
SAMPLE = 1 << 12
"""Columns that an estimate reads."""
RUN = 1 << 7
"""Of them, how many lie side by side."""
LEAST_WIDTH = 128
"""Columns of a block: with fewer, chance alone looks shared."""


@dataclass(frozen=True)
class Gram:
    """Inner products of n deltas: products (n, n) float64. length: of a delta, or the effective one of a weighted Gram matrix,
    such that two unrelated deltas have a cosine of about 1 / sqrt(length). blocks: (b, n, n) float32, the same over runs of
    `widths` columns each.
    """

    products: Square
    length: float
    blocks: NDArray[np.float32] | None = None
    widths: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, deltas: Matrix, blocks: int = 1) -> Gram:
        """deltas: (n, p) float32, finite. blocks: into how many runs of columns the products are split as well, at most.

        Memory: n x n per block and a view of n x 64 Ki.
        """
        count, length = deltas.shape
        # Of a block that begins within a line of the cache a kernel reads two for each, and takes half as long again.
        line = LINE // deltas.itemsize
        width = max(LEAST_WIDTH, -(-length // (blocks * line)) * line) if blocks > 1 else max(1, length)
        starts = range(0, length, width)
        chunk = KERNEL_CHUNK if kernels.compiled() else CHUNK
        runs = [
            (place, slice(left, min(left + chunk, start + width, length)))
            for place, start in enumerate(starts)
            for left in range(start, min(start + width, length), chunk)
        ]
        products = np.zeros((count, count))
        parts = np.zeros((len(starts), count, count), np.float32) if blocks > 1 else None
        for (place, _), part in zip(runs, _products(lambda run: deltas[:, run[1]], runs), strict=True):
            products += part
            if parts is not None:
                parts[place] += part
        return cls(products, float(length), parts, np.minimum(width, length - np.array(starts)))

    @classmethod
    def sampled(cls, deltas: Matrix) -> Gram:
        """An estimate from at most SAMPLE columns, spread evenly in runs: enough to show by, too little to decide by.

        Norms come out right to about 1 / sqrt(SAMPLE), 1.6 %; exact where there are no more columns.
        """
        count, length = deltas.shape
        if length <= SAMPLE:
            return cls.of(deltas)
        starts: list[list[int]] = np.linspace(0, length - RUN, SAMPLE // RUN).astype(int).reshape(-1, 8).tolist()
        products = np.zeros((count, count))
        for part in _products(lambda some: np.concatenate([deltas[:, start : start + RUN] for start in some], axis=1), starts):
            products += part
        return cls(products * (length / SAMPLE), float(SAMPLE))

    def where_shared(self) -> Gram:
        """The Gram matrix in which each block of columns counts by how much the updates have in common there.

        Noise, above all that of differential privacy, fills all columns alike, while what devices learn together lies in few:
        over all columns its cosines drown in 1 / sqrt(p). Each block is weighted as a Wiener filter would, by s / (s + v / (n
        - 1)): s is the squared length of the shared part (the median absolute product of two updates, which sign flips do not
        change), v that of the rest. Blocks in which s is no more than chance count nothing; where all are so, the matrix stays
        as it is.
        """
        count = len(self.products)
        if self.blocks is None or self.widths is None or count < 4:
            return self
        pairs = np.triu_indices(count, 1)
        energy = medians(np.diagonal(self.blocks, axis1=1, axis2=2)).astype(np.float64)
        of_pairs = cores.each(lambda block: medians(np.abs(block[pairs])[None]), list(self.blocks))
        shared = np.concatenate(of_pairs).astype(np.float64)
        # Of unrelated updates the products are normal: half lie within 0.67 deviations, and that median varies by 0.79 /
        # sqrt(pairs).
        chance = (0.6745 + 2.5 * 0.79 / np.sqrt(len(pairs[0]))) * energy / np.sqrt(self.widths)
        shared = np.where(shared > chance, shared, 0.0)
        weights = shared / np.maximum(shared + (energy - shared).clip(min=0) / (count - 1), 1e-300)
        if not weights.any():
            return self
        spread = np.square(weights * energy) / self.widths
        return Gram(np.tensordot(weights, self.blocks, 1), float(np.square((weights * energy).sum()) / spread.sum()))

    def of_rows(self, rows: NDArray[np.intp]) -> Gram:
        """The same for some of the deltas."""
        return Gram(self.products[np.ix_(rows, rows)], self.length)

    def mixed(self, mixing: Square) -> Gram:
        """The Gram matrix of `mixing @ deltas`."""
        return Gram(mixing @ self.products @ mixing.T, self.length)

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """L2 norm of each delta, (n,)."""
        norms: NDArray[np.float64] = np.sqrt(np.diag(self.products).clip(min=0))
        return norms

    @cached_property
    def squared_distances(self) -> Square:
        """Squared L2 distance of each pair; rounding cannot make it negative, nor the diagonal other than zero."""
        squares = np.diag(self.products)
        distances = (squares[:, None] + squares[None, :] - 2 * self.products).clip(min=0)
        np.fill_diagonal(distances, 0)
        return distances

    @cached_property
    def cosines(self) -> Square:
        """Cosine of each pair; 0 where a delta is zero."""
        norms = np.where(self.norms > 0, self.norms, np.inf)
        return np.clip(self.products / norms[:, None] / norms[None, :], -1, 1)

    def cosines_to_others(self, members: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Cosine of each delta to the sum of the members' unit deltas without itself, (n,)."""
        count = len(self.norms)
        inside = np.ones(count) if members is None else members.astype(np.float64)
        cosines = self.cosines.copy()
        np.fill_diagonal(cosines, (self.norms > 0).astype(float))
        to_sum = cosines @ inside - inside * np.diag(cosines)
        # |sum without i|^2 = |sum|^2 - 2 <sum, i> + |i|^2, for those inside.
        squared = inside @ cosines @ inside - inside * (2 * (cosines @ inside) - np.diag(cosines))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(squared > 1e-12, to_sum / np.sqrt(squared.clip(min=1e-12)), 0.0))


def medians(rows: NDArray[Real]) -> NDArray[Real]:
    """np.median(rows, axis=1) to the bit, of finite values, in a quarter of the time: one value is found by vector instructions,
    the two in the middle of an even number are not.
    """
    half = rows.shape[1] // 2
    parted = np.partition(rows, half, axis=1)
    upper = parted[:, half]
    return upper if rows.shape[1] % 2 else (parted[:, :half].max(axis=1) + upper) / 2


def _products(columns: Callable[[Part], Matrix], parts: Sequence[Part]) -> Iterable[NDArray[np.floating]]:
    """The inner products of some columns of the deltas, of each part. BLAS spreads one over the cores, the kernel has a part on
    each.
    """
    if (compiled := kernels.compiled()) is not None:
        return cores.each(lambda part: compiled.products(columns(part)), parts)
    return (chunk @ chunk.T for chunk in map(columns, parts))
