"""Coordinate-wise means without the extremes, over updates too many to copy: chunk by chunk, each small enough for the cache.

The compiled kernels take columns through a pruned sorting network. Without them NumPy does, for up to 32 updates; more are
transposed and sorted, where its vectorised sort of short rows is quicker than its overhead for each comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation import cores, kernels
from edgefl.federation.aggregation.networks import NETWORK_MOST, Keep, trimming_network
from edgefl.federation.aggregation.vectors import Matrix, Vector

CHUNK_BYTES = 1 << 20
"""A chunk of all updates, and as much again to swap or sort in, fits a core's second-level cache."""
KERNEL_COLUMNS = 1 << 12
"""A chunk of what a kernel reads as it is, without a copy: much work beside the call, little beside a core's share."""
SUM_COLUMNS = 1 << 14
"""Columns of a sum's chunk: a row's share of it is multiplied in the cache."""
MEMORY_SHARE = 0.1
"""Chunks at work are together at most this share of the updates, so that small federations' peak stays low too."""

Chunk = NDArray[np.float32]


def trimmed_mean(deltas: Matrix, trim: int, mixing: NDArray[np.float32] | None = None) -> Vector:
    """Mean of each coordinate without its `trim` smallest and largest values (Yin et al., 2018, arXiv:1803.01498).

    deltas: (n, p) float32, finite. mixing: (m, n) float32; when given, `mixing @ deltas` is trimmed instead, without ever
    being whole in memory. Returns (p,) float32. Raises ValueError unless 0 <= 2 * trim < rows.
    """
    rows = len(deltas) if mixing is None else len(mixing)
    if not 0 <= 2 * trim < rows:
        raise ValueError(f"cannot trim {trim} at each end of {rows}")
    if trim == 0:
        weights = np.full(rows, 1 / rows, np.float32)
        return weighted_sum(deltas, weights if mixing is None else weights @ mixing)
    compiled = kernels.compiled() if max(rows, len(deltas)) <= kernels.MOST_ROWS else None
    if compiled is not None:
        return _by_columns(deltas, lambda chunk: compiled.trimmed(chunk, trim, mixing), KERNEL_COLUMNS)
    trimmed = _by_network if rows <= NETWORK_MOST else _by_sort
    share = int(deltas.shape[1] * MEMORY_SHARE / (2 * cores.count()))  # a chunk at work has about as much again beside it
    width = max(256, min(CHUNK_BYTES // (4 * rows), share) // 64 * 64)
    if mixing is None:
        return _by_columns(deltas, lambda chunk: trimmed(chunk, trim), width)
    # BLAS spreads a product over the cores itself: within threads of ours its own would wait for each other.
    out, wide = np.empty(deltas.shape[1], np.float32), width * cores.count()
    for left in range(0, len(out), wide):
        _by_columns(mixing @ deltas[:, left : left + wide], lambda chunk: trimmed(chunk, trim), width, out[left : left + wide])
    return out


def median(deltas: Matrix) -> Vector:
    """Median of each coordinate; of an even number, the mean of the two in the middle. deltas: (n, p) float32. Returns (p,)
    float32.
    """
    return trimmed_mean(deltas, (len(deltas) - 1) // 2)


def weighted_sum(deltas: Matrix, weights: NDArray[np.floating]) -> Vector:
    """Sum of the rows times their weights, (p,) float32; rows of weight zero are not read."""
    used, narrow = np.flatnonzero(weights), np.ascontiguousarray(weights, np.float32)
    if (compiled := kernels.compiled()) is not None:
        return _by_columns(deltas, lambda chunk: compiled.weighted(chunk, narrow), SUM_COLUMNS)
    total: Vector
    if len(used) == len(weights):
        total = narrow @ deltas
        return total
    total = np.zeros(deltas.shape[1], np.float32)
    for start in range(0, len(total), SUM_COLUMNS):
        columns = slice(start, start + SUM_COLUMNS)
        for row in used:
            total[columns] += narrow[row] * deltas[row, columns]
    return total


def _by_columns(deltas: Matrix, reduce: Callable[[Chunk], Vector], width: int, into: Vector | None = None) -> Vector:
    length = deltas.shape[1]
    out = np.empty(length, np.float32) if into is None else into

    def work(start: int) -> None:
        out[start : start + width] = reduce(deltas[:, start : start + width])

    cores.each(work, range(0, length, width))
    return out


def _by_network(chunk: Chunk, trim: int) -> Vector:
    places: list[Vector] = list(chunk)
    spare: list[Vector] = []  # buffers of values that nothing needs any more
    owned = [False] * len(places)
    for step in trimming_network(len(places), trim):
        low, high = places[step.low], places[step.high]
        if step.keep is Keep.BOTH:
            target = spare.pop() if spare else np.empty_like(low)
            np.minimum(low, high, out=target)
            if owned[step.high]:
                np.maximum(low, high, out=high)
            else:
                places[step.high] = np.maximum(low, high, out=spare.pop() if spare else np.empty_like(low))
                owned[step.high] = True
            if owned[step.low]:
                spare.append(low)
            places[step.low], owned[step.low] = target, True
        else:
            kept, dropped = (step.low, step.high) if step.keep is Keep.LOW else (step.high, step.low)
            choose = np.minimum if step.keep is Keep.LOW else np.maximum
            target = places[kept] if owned[kept] else spare.pop() if spare else np.empty_like(low)
            choose(low, high, out=target)
            places[kept], owned[kept] = target, True
            if owned[dropped]:
                spare.append(places[dropped])
                owned[dropped] = False
    middle = places[trim : len(places) - trim]
    total = middle[0] + middle[1] if len(middle) > 1 else middle[0].copy()
    for value in middle[2:]:
        total += value
    total *= np.float32(1 / len(middle))
    return total


def _by_sort(chunk: Chunk, trim: int) -> Vector:
    rows = len(chunk)
    turned = chunk.T.copy()
    turned.sort(axis=1)
    kept = rows - 2 * trim
    # A product with equal weights is a mean, six times faster than NumPy's over so short an axis.
    mean: Vector = turned[:, trim : rows - trim] @ np.full(kept, 1 / kept, np.float32)
    return mean
