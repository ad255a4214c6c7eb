"""Privacy of whole devices, one round: the noise, the clipping, and what is refused."""

from __future__ import annotations

from math import erfc, exp, sqrt

import numpy as np
import pytest

from edgefl.federation.privacy.clients import Clipping, client_plan, gaussian
from edgefl.federation.privacy.plan import PrivacyRefused
from edgefl.site.model import Privacy

PRIVACY = Privacy(mode="client", epsilon_per_run=4.0, epsilon_limit=6.0, delta=1e-3)
RNG = np.random.default_rng(2)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The exact delta of a Gaussian mechanism of sensitivity mu (Balle and Wang, 2018, arXiv:1805.06530, theorem 8)."""

    def below(value: float) -> float:
        return erfc(-value / sqrt(2)) / 2

    return below(mu / 2 - epsilon / mu) - exp(epsilon) * below(-mu / 2 - epsilon / mu)


@pytest.mark.slow
def test_a_runs_cost_is_that_of_the_exact_formula_for_composed_gaussians() -> None:
    plan = client_plan(PRIVACY, 100, 20)
    mu = sqrt(20) / plan.sigma
    assert gaussian_delta(4.0, mu) <= 1e-3
    assert gaussian_delta(3.95, mu) > 1e-3, "no more noise than the target asks for"


def test_what_a_ledger_solved_before_is_not_solved_again() -> None:
    asked: list[str] = []
    assert client_plan(PRIVACY, 100, 20, lambda question: asked.append(question) or 3.75).sigma == 3.75
    assert asked == ["4.0 0.001 20 1.0 1"]


def test_the_noise_is_normal_and_never_the_same() -> None:
    one, other = gaussian(200_001, 3.0), gaussian(200_001, 3.0)
    assert len(one) == 200_001
    assert not np.isin(one, other).any()
    for drawn in (one, other):
        assert abs(drawn.mean()) < 0.04
        assert abs(drawn.std() - 3.0) < 0.03
        assert abs((np.abs(drawn) > 6).mean() - 0.0455) < 0.003


@pytest.mark.parametrize("adapts", [False, True])
def test_the_step_has_the_noise_that_is_accounted_and_no_less(adapts: bool) -> None:
    clipping = Clipping(bound=2.0, sigma=3.0, devices=50, adapts=adapts)
    step, _ = clipping.aggregate(np.zeros((40, 100_000), np.float32))
    assert step.std() == pytest.approx(clipping.sum_sigma * 2.0 / 50, rel=0.02)
    assert clipping.sum_sigma >= 3.0


@pytest.mark.parametrize("adapts", [False, True])
@pytest.mark.parametrize("weights", [None, (1.0, 0.3, 0.5, 1.0, 0.7)])
def test_one_device_moves_the_sum_by_the_bound_at_most(adapts: bool, weights: tuple[float, ...] | None) -> None:
    clipping = Clipping(bound=2.0, sigma=1e-9, devices=5, adapts=adapts)
    deltas = (RNG.normal(size=(5, 300)) * np.array([[1e6], [1], [0.01], [0], [30]])).astype(np.float32)
    whole, _ = clipping.aggregate(deltas.copy(), weights)
    for left_out in range(5):
        others = None if weights is None else [weight for place, weight in enumerate(weights) if place != left_out]
        part, _ = clipping.aggregate(np.delete(deltas, left_out, axis=0), others)
        assert 5 * np.linalg.norm(whole.astype(np.float64) - part) <= 2.0 * (1 + 1e-4)


def test_small_updates_are_averaged_as_they_are() -> None:
    deltas = RNG.normal(size=(4, 50)).astype(np.float32)
    step, _ = Clipping(bound=100.0, sigma=1e-9, devices=4, adapts=False).aggregate(deltas.copy())
    np.testing.assert_allclose(step, deltas.mean(axis=0), atol=1e-5)


def test_an_older_update_counts_less_after_clipping() -> None:
    long, short = np.float32([[100, 0]]), np.float32([[0, 0.5]])
    step, _ = Clipping(bound=1.0, sigma=1e-9, devices=1, adapts=False).aggregate(np.vstack([long, short]), [0.25, 1.0])
    np.testing.assert_allclose(step, [0.25, 0.5], atol=1e-5)


@pytest.mark.parametrize("start", [0.01, 50.0])
def test_an_adaptive_bound_finds_the_median_norm(start: float) -> None:
    clipping = Clipping(bound=start, sigma=0.5, devices=200, adapts=True)
    for _ in range(120):
        directions = RNG.normal(size=(200, 20))
        norms = RNG.lognormal(size=(200, 1))  # with median 1
        deltas = (norms * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
        _, clipping = clipping.aggregate(deltas)
    assert 0.7 < clipping.bound < 1.4


def test_the_count_is_paid_for_by_the_sum() -> None:
    for devices in (4, 1000):
        clipping = Clipping(1.0, 2.0, devices, adapts=True)
        assert clipping.sum_sigma**-2 + (2 * clipping.count_sigma) ** -2 == pytest.approx(2.0**-2)
        assert 2.0 < clipping.sum_sigma < 2.21


def test_hundreds_of_devices_learn_under_a_meaningful_epsilon() -> None:
    """Sigma 3.7 is epsilon 4 at delta 1e-3 over 20 rounds: the noise that drowns ten devices leaves a thousand to learn."""
    rng, truth = np.random.default_rng(5), np.full(50, 3 / sqrt(50))

    def distance(devices: int) -> float:
        model, clipping = np.zeros(50), Clipping(bound=1.0, sigma=3.7, devices=devices, adapts=True)
        for _ in range(20):
            local = truth + rng.normal(0, 0.1, (devices, 50))
            step, clipping = clipping.aggregate((local - model).astype(np.float32))
            model = model + step
        return float(np.linalg.norm(model - truth))

    assert distance(1000) < 0.1
    assert distance(10) > 3, "farther away than where it began"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"delta": 9e-3}, "promises nothing for 200 devices"),
        ({"epsilon_per_run": 500.0}, "decorative"),
        ({"epsilon_per_run": 1e-7}, "with any noise"),
    ],
)
def test_promises_that_are_empty_are_refused(changes: dict[str, float], why: str) -> None:
    with pytest.raises(PrivacyRefused, match=why):
        client_plan(PRIVACY.model_copy(update=changes), 200, 20)
