"""Server optimisers: the round's robust aggregate is taken for a gradient, and the model makes a step along it (Reddi et al.,
2020, arXiv:2003.00295).

The arithmetic is that of Flower's FedAdam, FedYogi and FedAvgM, which cannot be had without their transport and their own mean
of the updates; the tests hold one against the other. A step gives the next optimiser, which is saved with the round's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from edgefl.federation.aggregation.vectors import Vector
from edgefl.site.model import ServerOptimiser

_RATES = {"none": 1.0, "momentum": 1.0, "adam": 0.1, "yogi": 0.01}
"""Steps where the site names none: Flower's defaults."""
MOMENT, SQUARES = "moment", "squares"


class OptimiserMismatch(ValueError):
    """What was saved belongs to another optimiser, or to another model."""


@dataclass(frozen=True, slots=True)
class Optimiser:
    """steps: how many it has made. vectors: its moments, (p,) float32 each, by name; empty before the first step."""

    settings: ServerOptimiser
    steps: int = 0
    vectors: Mapping[str, Vector] = field(default_factory=dict)

    @classmethod
    def restored(cls, settings: ServerOptimiser, steps: int, vectors: Mapping[str, Vector], size: int) -> Optimiser:
        """As it was after a round. size: p. Raises OptimiserMismatch when this is not what these settings keep."""
        wanted = _kept(settings) if steps else set()
        if set(vectors) != wanted or any(vector.shape != (size,) for vector in vectors.values()):
            raise OptimiserMismatch(f"{sorted(vectors)} is not what {settings.name} keeps for {size} values")
        return cls(settings, steps, dict(vectors))

    def step(self, delta: Vector) -> tuple[Vector, Optimiser]:
        """What to move the model by, and the optimiser afterwards. delta: the aggregate, (p,) float32."""
        settings = self.settings
        if settings.name == "none":
            return delta, self
        rate = np.float32(settings.learning_rate or _RATES[settings.name])
        zero = np.zeros_like(delta)
        moment: Vector = np.float32(settings.beta1) * self.vectors.get(MOMENT, zero)
        if settings.name == "momentum":
            moment += delta
            return rate * moment, replace(self, steps=self.steps + 1, vectors={MOMENT: moment})
        moment += np.float32(1 - settings.beta1) * delta
        squares: Vector = self.vectors.get(SQUARES, zero)
        new: Vector = np.square(delta)
        if settings.name == "yogi":
            squares = squares - np.float32(1 - settings.beta2) * new * np.sign(squares - new)
        else:
            squares = np.float32(settings.beta2) * squares + np.float32(1 - settings.beta2) * new
            # Flower corrects the bias with the round's number plus one; a round that was skipped made no step here.
            place = self.steps + 2
            rate *= np.float32(sqrt(1 - settings.beta2**place) / (1 - settings.beta1**place))
        # Yogi's squares stay above zero by construction, up to float32's rounding.
        scale: Vector = np.sqrt(np.maximum(squares, np.float32(0))) + np.float32(settings.tau)
        move: Vector = rate * moment / scale
        return move, replace(self, steps=self.steps + 1, vectors={MOMENT: moment, SQUARES: squares})


def _kept(settings: ServerOptimiser) -> set[str]:
    return {"none": set(), "momentum": {MOMENT}}.get(settings.name, {MOMENT, SQUARES})
