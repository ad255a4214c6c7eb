"""What becomes of updates in the space of their inner products: each function turns an n x n matrix into n weights or scores.

None of them reads the updates: a point that is a weighted sum of updates has its distances in the Gram matrix too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation.gram import Gram

Values = NDArray[np.float64]
STEPS = 500
"""Weiszfeld's steps at most; it takes some twenty, more where the median lies on an update."""
PRECISION = 1e-9
"""Relative change of the weights below which it has arrived."""


def krum_scores(gram: Gram, malicious: int) -> Values:
    """Sum of each delta's squared distances to its n - f - 2 nearest others (at least one), (n,) (Blanchard et al., 2017)."""
    count = len(gram.norms)
    if count == 1:
        return np.zeros(1)
    others = gram.squared_distances[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    nearest = max(1, count - malicious - 2)
    return np.asarray(np.sort(others, axis=1)[:, :nearest].sum(axis=1))


def distances_to(gram: Gram, weights: Values) -> Values:
    """Distance of each delta to the weighted sum of all, (n,). weights: (n,), of sum 1."""
    towards = gram.products @ weights
    squares: Values = np.diag(gram.products) - 2 * towards + weights @ towards
    return np.asarray(np.sqrt(squares.clip(min=0)))


def geometric_median(gram: Gram) -> Values:
    """Weights (n,) of sum 1 whose weighted sum has the least summed distance to all deltas.

    Weiszfeld's iteration, smoothed near the deltas themselves (Pillutla et al., 2022, arXiv:1912.13445).
    """
    count = len(gram.norms)
    weights = np.full(count, 1 / count)
    least = 1e-6 * float(np.median(distances_to(gram, weights)))
    if least == 0:
        return weights
    for _ in range(STEPS):
        pulls = 1 / np.maximum(distances_to(gram, weights), least)
        nearer = pulls / pulls.sum()
        moved = float(np.abs(nearer - weights).max())
        weights = nearer
        if moved < PRECISION:
            break
    return weights


def nearest_mixing(gram: Gram, malicious: int) -> Values:
    """Each row averages a delta with its n - f - 1 nearest others, (n, n) (Allouah et al., 2023, arXiv:2302.01772)."""
    count = len(gram.norms)
    kept = max(1, count - malicious)
    nearest = np.argsort(gram.squared_distances, axis=1, kind="stable")[:, :kept]
    mixing = np.zeros((count, count))
    np.put_along_axis(mixing, nearest, 1 / kept, axis=1)
    return mixing


def clipped(gram: Gram) -> Values:
    """Factors (n,) after which no delta is longer than the median one."""
    return np.asarray(np.minimum(1.0, float(np.median(gram.norms)) / np.maximum(gram.norms, 1e-30)))


def norm_z_scores(gram: Gram) -> Values:
    """How many standard deviations each delta's norm lies from their mean, (n,); zeros where all are equal."""
    norms = gram.norms
    deviation = float(norms.std())
    return np.abs(norms - norms.mean()) / deviation if deviation > 1e-9 * float(norms.mean()) else np.zeros(len(norms))
