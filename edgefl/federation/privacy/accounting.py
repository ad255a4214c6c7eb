"""What training steps cost in epsilon, composed exactly: Opacus' PRV accountant over a device's whole history.

A history is never thrown away and never begun anew per round: twenty rounds accounted one by one and added, or an accountant
made anew each round, give other (wrong) figures than their composition. All functions here are pure; Opacus is imported when
they are called, since it brings torch.

Source: Gopi, Lee, Wutschitz, "Numerical Composition of Differential Privacy", 2021, arXiv:2106.02848.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, erfc, exp, log, sqrt
from typing import Any

import numpy as np

MIN_SIGMA = 0.3
"""Below this the noise is decorative: one step at a sampling rate of a few per cent already costs tens of epsilon."""
MAX_SIGMA = 1000.0
FORECAST_ROUNDS = 10_000
"""A forecast stops counting here."""
FORECAST_EXACT = 100
"""A forecast beyond so many rounds is RDP's, about a fifth too low: PRV would take seconds to say what years will bring."""
LARGEST_EXACT = 30.0
"""Above this epsilon protects nobody; PRV's grid outgrows memory there, so RDP's looser bound stands in for it."""


@dataclass(frozen=True, slots=True, order=True)
class Steps:
    """DP-SGD steps of one kind: noise multiplier sigma, Poisson sampling rate, how many."""

    sigma: float
    sampling_rate: float
    count: int


def epsilon(history: Iterable[Steps], delta: float) -> float:
    """Upper bound of the epsilon that a history of steps has spent at delta; 0 for none. PRV's, or RDP's above LARGEST_EXACT.

    Composition does not depend on order, so steps of one kind are joined before the accountant sees them: a run of equal
    rounds costs one convolution however long it is, and a restart in the middle changes nothing.
    """
    return _epsilon(_joined(history), delta)


def solve_sigma(target: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The noise multiplier, to 1e-3 and rounded up, with which `steps` steps cost at most `target` at delta.

    It is MIN_SIGMA where less noise would do. Raises ValueError when MAX_SIGMA is not enough.
    """
    from scipy.optimize import brentq  # type: ignore[import-untyped]  # with Opacus: only where steps are accounted

    @cache
    def excess(sigma: float) -> float:
        return epsilon([Steps(sigma, sampling_rate, steps)], delta) - target

    # RDP is quick and overestimates by about a tenth: PRV's answer lies a little below its own.
    high = MIN_SIGMA
    while _epsilon_rdp((Steps(high, sampling_rate, steps),), delta) > target:
        high *= 1.1
        if high > MAX_SIGMA:
            raise ValueError(f"{steps} steps at sampling rate {sampling_rate:.3g} cost more than epsilon {target} with any noise")
    while excess(high) > 0:
        high *= 1.1
    low = max(MIN_SIGMA, 0.8 * high)
    while low > MIN_SIGMA and excess(low) <= 0:
        low, high = max(MIN_SIGMA, 0.8 * low), low
    if excess(low) <= 0:
        return float(low)
    milli_sigma = ceil(1000 * brentq(excess, low, high, xtol=5e-4) - 0.5)
    while excess(milli_sigma / 1000) > 0:
        milli_sigma += 1
    return float(milli_sigma / 1000)


def rounds_left(history: Sequence[Steps], a_round: Steps, delta: float, limit: float, guess: int | None = None) -> int:
    """How many more rounds like `a_round` fit below `limit` after `history`, at most FORECAST_ROUNDS.

    guess: tried first; a right one (the last forecast less one) costs two evaluations.
    """

    def after(rounds: int) -> list[Steps]:
        return [*history, Steps(a_round.sigma, a_round.sampling_rate, a_round.count * rounds)]

    def fits(rounds: int) -> bool:
        return rounds <= 0 or (rounds <= FORECAST_ROUNDS and epsilon(after(rounds), delta) <= limit)

    def surely_fits(rounds: int) -> bool:
        return rounds <= 0 or (rounds <= FORECAST_ROUNDS and _epsilon_rdp(_joined(after(rounds)), delta) <= limit)

    if guess is not None and guess <= FORECAST_EXACT and fits(guess) and not fits(guess + 1):
        return max(0, guess)
    least = _last_true(surely_fits, 0)
    return least if least > FORECAST_EXACT else _last_true(fits, least)


def _last_true(holds: Callable[[int], bool], guess: int) -> int:
    """The last argument for which a predicate that turns false once holds, searched outward from a guess."""
    stride = 1
    if holds(guess):
        low, high = guess, guess + 1
        while holds(high):
            stride *= 2
            low, high = high, high + stride
    else:
        low, high = guess - 1, guess
        while not holds(low):
            stride *= 2
            low, high = low - stride, low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return max(0, low)


def _joined(history: Iterable[Steps]) -> tuple[Steps, ...]:
    kinds: Counter[tuple[float, float]] = Counter()
    for steps in history:
        kinds[steps.sigma, steps.sampling_rate] += steps.count
    return tuple(sorted(Steps(*kind, count) for kind, count in kinds.items() if count))


@lru_cache(maxsize=1024)
def _epsilon(history: tuple[Steps, ...], delta: float) -> float:
    if not history:
        return 0.0
    if (loose := _epsilon_rdp(history, delta)) > LARGEST_EXACT:
        return loose
    accountant = _accountant()
    accountant.history = [(steps.sigma, steps.sampling_rate, steps.count) for steps in history]
    # Far in the tail the logarithm of infinity is what is meant, and at a sampling rate of 1 that of 0.
    with np.errstate(over="ignore", divide="ignore"):
        return float(accountant.get_epsilon(delta=delta))


def _epsilon_rdp(history: tuple[Steps, ...], delta: float) -> float:
    """A quick bound, about a tenth above PRV's. Whole orders have a closed form, 8 times faster than Opacus' default list."""
    curve = sum(_rdp_curve(steps.sigma, steps.sampling_rate, tuple(range(2, 64))) * steps.count for steps in history)
    return _epsilon_of_curve(curve, delta, tuple(range(2, 64)))


@lru_cache(maxsize=1024)
def _rdp_curve(sigma: float, sampling_rate: float, orders: tuple[float, ...]) -> Any:
    from opacus.accountants.analysis import rdp  # brings torch

    return rdp.compute_rdp(q=sampling_rate, noise_multiplier=sigma, steps=1, orders=list(orders))


def _epsilon_of_curve(curve: Any, delta: float, orders: tuple[float, ...]) -> float:
    from opacus.accountants.analysis import rdp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order is the first or last: then the bound is looser, still a bound
        return float(rdp.get_privacy_spent(orders=list(orders), rdp=curve, delta=delta)[0])


def _accountant() -> Any:
    """Opacus' PRV accountant in a sixth to a half of its time.

    The figures are the same (tests/federation/privacy/test_accounting.py).
    Kept are the RDP curves that bound its domain, four fifths of its time; that domain is Opacus' to the last bit. Of what is
    left half was the mean of a privacy loss: an integral that asks for single values, 700 times, of code made for arrays.
    """
    from opacus.accountants import PRVAccountant, RDPAccountant  # brings torch
    from opacus.accountants.analysis import prv as analysis

    orders = tuple(RDPAccountant.DEFAULT_ALPHAS)

    class Loss(analysis.TruncatedPrivacyRandomVariable):  # type: ignore[misc]  # Opacus is untyped
        def cdf(self, t: Any) -> Any:
            if not isinstance(t, float):
                return super().cdf(t)
            if not self.t_min <= t < self.t_max:
                return float(t >= self.t_max)
            return (_cdf(t, self._prv) - _cdf(self.t_min, self._prv)) / self._remaining_mass

    class Accountant(PRVAccountant):  # type: ignore[misc]  # Opacus is untyped
        def _get_dprv(self, eps_error: float, delta_error: float) -> Any:
            prvs = [analysis.PoissonSubsampledGaussianPRV(rate, sigma) for sigma, rate, _ in self.history]
            counts = [count for _, _, count in self.history]
            domain = self._get_domain(prvs, counts, eps_error, delta_error)
            losses = [analysis.discretize(Loss(prv, domain.t_min, domain.t_max), domain) for prv in prvs]
            return analysis.compose_heterogeneous(dprvs=losses, num_self_compositions=counts)

        def _get_domain(self, prvs: Any, num_self_compositions: list[int], eps_error: float, delta_error: float) -> Any:
            curves = [_rdp_curve(prv.noise_multiplier, prv.sample_rate, orders) for prv in prvs]
            total = sum(num_self_compositions)
            whole = sum(curve * count for curve, count in zip(curves, num_self_compositions, strict=True))
            size = _epsilon_of_curve(whole, delta_error / 4, orders)
            size = max([size, *(_epsilon_of_curve(curve, delta_error / (8 * total), orders) for curve in curves)])
            size = max(size, eps_error) + 3
            mesh = eps_error / (total * log(12 / delta_error) / 2) ** 0.5
            return analysis.Domain.create_aligned(-size, size, mesh)

    return Accountant()


def _cdf(t: float, prv: Any) -> float:
    """`prv.cdf(t)`, the privacy loss' distribution of a subsampled Gaussian, of one value."""
    rate, sigma = float(prv.sample_rate), float(prv.noise_multiplier)
    odds = (exp(min(t, 700.0)) + rate - 1) / rate  # beyond, the next power is no float
    if odds <= 0:
        return 0.0
    middle, spread = 2 * log(odds) * sigma**2, 2 * sqrt(2) * sigma
    return 1.0 - rate * erfc((middle - 1) / spread) / 2 - (1 - rate) * erfc((middle + 1) / spread) / 2
