"""What is decided on inner products alone, against versions that go through the updates themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from edgefl.federation.aggregation.gram import Gram
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import build
from edgefl.federation.aggregation.weights import distances_to, geometric_median, nearest_mixing, norm_z_scores

SEEDS = st.integers(0, 10_000)


def crowd(seed: int, count: int, length: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    deltas = rng.standard_normal(length) + rng.standard_normal((count, length)) * rng.lognormal(0, 0.7, (count, 1))
    return deltas.astype(np.float32)


def named(count: int) -> tuple[list[str], np.ndarray]:
    return [f"edge-{place:02}" for place in range(count)], np.full(count, 100)


def summed_distance(point: np.ndarray, deltas: np.ndarray) -> float:
    return float(np.linalg.norm(deltas.astype(np.float64) - point, axis=1).sum())


@pytest.mark.slow
@given(SEEDS, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_the_geometric_median_is_as_good_as_a_direct_optimisers(seed: int, count: int) -> None:
    deltas = crowd(seed, count)
    names, samples = named(count)
    ours = build("geometric-median", 0.0).aggregate(deltas, names, samples, Reputation()).delta
    starts = [deltas.mean(axis=0), *deltas]
    best = min(
        minimize(lambda point: summed_distance(point, deltas), start, method="BFGS").fun
        for start in starts[: 1 if count > 6 else 7]
    )
    assert summed_distance(ours, deltas) <= min(best, *(summed_distance(one, deltas) for one in deltas)) * (1 + 1e-4) + 1e-6


@given(SEEDS, st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_distances_to_a_weighted_sum_are_those_of_the_vectors(seed: int, count: int) -> None:
    deltas = crowd(seed, count)
    weights = np.random.default_rng(seed).dirichlet(np.ones(count))
    direct = np.linalg.norm(deltas.astype(np.float64) - weights @ deltas.astype(np.float64), axis=1)
    np.testing.assert_allclose(distances_to(Gram.of(deltas), weights), direct, rtol=1e-3, atol=1e-3)


def naive_mixing(deltas: np.ndarray, malicious: int) -> np.ndarray:
    """Allouah et al., word for word: each update becomes the mean of the n - f nearest to it, itself among them."""
    wide = deltas.astype(np.float64)
    mixed = []
    for one in wide:
        order = sorted(range(len(wide)), key=lambda place: float(np.square(wide[place] - one).sum()))
        mixed.append(np.mean([wide[place] for place in order[: len(wide) - malicious]], axis=0))
    return np.array(mixed)


@given(SEEDS, st.integers(3, 12))
@settings(max_examples=40, deadline=None)
def test_mixing_and_trimming_is_the_naive_versions(seed: int, count: int) -> None:
    deltas = crowd(seed, count)
    malicious = int(0.3 * count + 1e-9)
    names, samples = named(count)
    mixed = naive_mixing(deltas, malicious)
    np.testing.assert_allclose(nearest_mixing(Gram.of(deltas), malicious) @ deltas, mixed, rtol=1e-4, atol=1e-4)
    expected = np.sort(mixed, axis=0)[malicious : count - malicious].mean(axis=0)
    got = build("nnm", 0.3).aggregate(deltas, names, samples, Reputation())
    np.testing.assert_allclose(got.delta, expected, rtol=1e-3, atol=1e-4)
    again = build("trimmed-mean", 0.3, "nearest").aggregate(deltas, names, samples, Reputation())
    np.testing.assert_array_equal(again.delta, got.delta)


@pytest.mark.parametrize("rule", ["median", "geometric-median", "multi-krum"])
def test_mixing_before_a_rule_is_the_rule_on_mixed_updates(rule: str) -> None:
    deltas = crowd(3, 9, 300)
    names, samples = named(9)
    mixed = naive_mixing(deltas, 2).astype(np.float32)
    first = build(rule, 0.3, "nearest").aggregate(deltas, names, samples, Reputation())
    second = build(rule, 0.3).aggregate(mixed, names, samples, Reputation())
    np.testing.assert_allclose(first.delta, second.delta, rtol=1e-3, atol=1e-3)
    assert [score.device for score in first.scores] == names


@given(SEEDS, st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_norm_clipping_is_the_mean_of_updates_cut_to_the_median_length(seed: int, count: int) -> None:
    deltas = crowd(seed, count)
    names, samples = named(count)
    norms = np.linalg.norm(deltas, axis=1)
    cut = deltas * np.minimum(1, np.median(norms) / norms)[:, None]
    got = build("norm-clipping", 0.0).aggregate(deltas, names, samples, Reputation())
    np.testing.assert_allclose(got.delta, cut.mean(axis=0), rtol=1e-3, atol=1e-4)
    longest = int(norms.argmax())
    assert got.scores[longest].score == pytest.approx(norms[longest] / np.median(norms), rel=1e-3)


@pytest.mark.parametrize(("count", "colluders"), [(10, 2), (10, 3), (20, 6), (50, 15)])
def test_colluders_however_long_stay_below_the_z_scores_bound(count: int, colluders: int) -> None:
    deltas = crowd(4, count, 50)
    deltas[:colluders] = 1e4 * deltas[0]
    names, samples = named(count)
    aggregate = build("z-score", 0.0).aggregate(deltas, names, samples, Reputation())
    bound = np.sqrt((count - colluders) / colluders)
    assert norm_z_scores(Gram.of(deltas))[:colluders].mean() <= bound + 1e-6 < 3
    assert not any(score.flagged for score in aggregate.scores)


def test_the_z_score_flags_one_long_update_of_many_and_says_why() -> None:
    deltas = crowd(5, 30, 50)
    deltas[7] *= 500 / np.linalg.norm(deltas[7])
    names, samples = named(30)
    aggregate = build("z-score", 0.0).aggregate(deltas, names, samples, Reputation())
    assert [score.device for score in aggregate.scores if score.flagged] == ["edge-07"]
    assert "times as long" in aggregate.scores[7].reason
    assert aggregate.scores[7].weight == 0
    assert aggregate.reputation.of("edge-07").flags == 1
    np.testing.assert_allclose(aggregate.delta, np.delete(deltas, 7, axis=0).mean(axis=0), rtol=1e-4, atol=1e-5)


def test_a_median_that_lies_on_an_update_is_found() -> None:
    deltas = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    np.testing.assert_allclose(geometric_median(Gram.of(deltas)) @ deltas, 0, atol=1e-6)
