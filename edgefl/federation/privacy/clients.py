"""Differential privacy of whole devices, given by the coordinator (`privacy.mode: client`): the arithmetic of one round.

Each update is clipped to an L2 bound, their sum gets Gaussian noise of `sigma` times the bound, and what results is divided by
the number of devices that a round counts on, not by how many came: what a device's records say moves the sum by the bound at
most, against a zero in its place (McMahan et al., 2018, arXiv:1710.06963). The bound may follow the median norm: a noisy count
of the updates below it moves it (Andrew et al., 2021, arXiv:1905.03871), paid for by a little more noise on the sum.

Every round counts all devices, whoever was asked: no amplification by sampling is claimed. `run.selection` draws a fixed number
of devices by a seed that every device has, which is neither Poisson sampling nor a secret; and the journal says who took part.
The devices trust the coordinator with their single updates here; the guarantee is about the models that it gives out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation.vectors import Matrix, Vector
from edgefl.federation.privacy.accounting import LARGEST_EXACT, MIN_SIGMA, solve_sigma
from edgefl.federation.privacy.ledger import plan_question
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyRefused, PrivacyTerms
from edgefl.site.model import Privacy

QUANTILE, RATE = 0.5, 0.2
"""Of norms, which the bound follows, and how fast: the values of Andrew et al."""
COUNT_NOISE = 1.2
"""Noise of the count, in sigmas, at least: with as much, the sum needs a tenth more noise than without the count."""
NARROW = 1e-6
"""How far below the bound updates are clipped: what float32 rounds up must not end above it."""


def client_plan(privacy: Privacy, devices: int, rounds: int, known: Callable[[str], float | None] | None = None) -> PrivacyPlan:
    """Solve the noise of a run: one step a round, in which every device stands. Raises PrivacyRefused for empty promises.

    devices: of the run; they are the plan's `records`. known: what a ledger has solved before (Ledger.known_sigma).
    """
    terms = PrivacyTerms(privacy.epsilon_limit, privacy.epsilon_per_run, privacy.delta, privacy.clip_norm, rounds)
    if terms.delta >= 1 / devices:
        raise PrivacyRefused(f"delta {terms.delta:g} promises nothing for {devices} devices", hint="lower privacy.delta")
    try:
        asked = plan_question(terms.epsilon_per_run, terms.delta, rounds, 1.0, 1)
        sigma = (known(asked) if known else None) or solve_sigma(terms.epsilon_per_run, terms.delta, 1.0, rounds)
    except ValueError as error:
        raise PrivacyRefused(str(error), hint="raise privacy.epsilon_per_run, or train fewer rounds") from error
    if sigma <= MIN_SIGMA or terms.epsilon_per_run > LARGEST_EXACT:
        raise PrivacyRefused(
            f"epsilon {terms.epsilon_per_run:g} a run asks for noise of sigma {sigma:.2g} at most: it would be decorative",
            hint="lower privacy.epsilon_per_run, or set privacy.mode: none and claim nothing",
        )
    return PrivacyPlan(terms, devices, 1.0, 1, sigma)


@dataclass(frozen=True, slots=True)
class Clipping:
    """The bound of a round. sigma: noise of the round as a whole, as accounted. devices: how many a round counts on.

    adapts: whether the bound follows the norms.
    """

    bound: float
    sigma: float
    devices: int
    adapts: bool

    @property
    def count_sigma(self) -> float:
        """Standard deviation of the noise on the count of updates below the bound."""
        return max(self.devices / 20, COUNT_NOISE * self.sigma)

    @property
    def sum_sigma(self) -> float:
        """Noise on the sum, in bounds: with the count's, whose sensitivity is 1/2, the two cost what one of `sigma` does."""
        return 1 / sqrt(self.sigma**-2 - (2 * self.count_sigma) ** -2) if self.adapts else self.sigma

    def aggregate(self, deltas: Matrix, weights: Sequence[float] | None = None) -> tuple[Vector, Clipping]:
        """The round's private step, (p,) float32, and the bound of the next round.

        deltas: (n, p) float32, finite; clipped in place. weights: what each counts, at most 1 (an update that began with an older
        model counts less); it is applied after clipping, and so only takes from what a device can do.
        """
        norms = np.sqrt(np.einsum("ij,ij->i", deltas, deltas, dtype=np.float64))
        shrink = np.minimum(1.0, self.bound * (1 - NARROW) / np.maximum(norms, 1e-30))
        if weights is not None:
            shrink *= np.clip(weights, 0.0, 1.0)
        deltas *= shrink.astype(np.float32)[:, None]
        total = deltas.sum(axis=0, dtype=np.float64) + gaussian(deltas.shape[1], self.sum_sigma * self.bound)
        step: Vector = (total / self.devices).astype(np.float32)
        if not self.adapts:
            return step, self
        below = float((norms <= self.bound).sum()) - len(norms) / 2 + float(gaussian(1, self.count_sigma)[0])
        share = min(1.0, max(0.0, below / self.devices + 0.5))
        return step, replace(self, bound=self.bound * exp(-RATE * (share - QUANTILE)))


def gaussian(count: int, deviation: float) -> NDArray[np.float64]:
    """Normal noise from the kernel's random source, (count,).

    Each value joins four Box-Muller draws: a single one betrays by its floating-point grid what it was added to (Holohan and
    Braghin, 2021, arXiv:2107.10138).
    """
    pairs = -(-count // 2)
    noise = np.zeros(2 * pairs)
    for _ in range(4):
        words = np.frombuffer(os.urandom(16 * pairs), np.uint64) >> np.uint64(11)
        uniform = (words.astype(np.float64) + 0.5) / 2.0**53
        radius, angle = np.sqrt(-2 * np.log(uniform[:pairs])), 2 * np.pi * uniform[pairs:]
        noise[:pairs] += radius * np.cos(angle)
        noise[pairs:] += radius * np.sin(angle)
    return np.asarray(noise[:count] * (deviation / 2))
