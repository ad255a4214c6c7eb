"""How far apart two models are, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Layer:
    """One array of two models, or all of them together. norms: L2 of each; distance: L2 of the difference; cosine: of the angle
    between them, None where one is zero.
    """

    name: str
    shape: tuple[int, ...]
    norms: tuple[float, float]
    distance: float
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """layers: what both models have, by name; whole: all of that as one vector. only_a, only_b: arrays with no like in the other,
    by name or shape.
    """

    layers: list[Layer]
    whole: Layer
    only_a: list[str]
    only_b: list[str]


def compare(a: Arrays, b: Arrays) -> Comparison:
    """Every array of one model beside the other's. Sums in float64."""
    common = sorted(name for name in a.keys() & b.keys() if a[name].shape == b[name].shape)
    layers, total = [], np.zeros(4)
    for name in common:
        sums = _sums(a[name], b[name])
        layers.append(_layer(name, a[name].shape, sums))
        total += sums
    count = sum(a[name].size for name in common)
    return Comparison(layers, _layer("", (count,), total), sorted(a.keys() - set(common)), sorted(b.keys() - set(common)))


def _sums(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """|a|², |b|², |a - b|² and a·b: what all figures are made of, so that they add up over layers."""
    x, y = one.reshape(-1).astype(np.float64), other.reshape(-1).astype(np.float64)
    return np.array([x @ x, y @ y, (x - y) @ (x - y), x @ y])


def _layer(name: str, shape: tuple[int, ...], sums: NDArray[np.float64]) -> Layer:
    a, b, apart, product = (float(value) for value in sums)
    cosine = product / sqrt(a * b) if a > 0 and b > 0 else None
    return Layer(name, shape, (sqrt(a), sqrt(b)), sqrt(apart), None if cosine is None else max(-1.0, min(1.0, cosine)))
