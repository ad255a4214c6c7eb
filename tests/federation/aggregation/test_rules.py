"""The rules against brute force, and what each says of its updates."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.federation.aggregation.gram import SAMPLE, Gram, medians
from edgefl.federation.aggregation.limits import RULES, RuleUnfit, attackers, attackers_among, check_rule
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import build, off
from edgefl.federation.aggregation.weights import krum_scores

pytestmark = pytest.mark.usefixtures("either")
NAMES = [f"edge-{number:02}" for number in range(1, 51)]


def crowd(count: int, length: int = 400, seed: int = 0, noise: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(length) + noise * rng.standard_normal((count, length))).astype(np.float32)


def brute_force_krum(deltas: np.ndarray, malicious: int) -> np.ndarray:
    """Blanchard et al., word for word."""
    wide = deltas.astype(np.float64)
    distances = {pair: float(np.square(wide[pair[0]] - wide[pair[1]]).sum()) for pair in combinations(range(len(wide)), 2)}
    nearest = len(wide) - malicious - 2
    return np.array(
        [sum(sorted(distance for pair, distance in distances.items() if place in pair)[:nearest]) for place in range(len(wide))]
    )


@given(st.integers(0, 10_000), st.integers(3, 12), st.data())
@settings(max_examples=40, deadline=None)
def test_krums_scores_are_those_of_its_definition(seed: int, count: int, data: st.DataObject) -> None:
    deltas = crowd(count, seed=seed)
    malicious = data.draw(st.integers(0, (count - 3) // 2))
    np.testing.assert_allclose(krum_scores(Gram.of(deltas), malicious), brute_force_krum(deltas, malicious), rtol=1e-4)


def test_krum_returns_one_of_the_updates_and_multi_krum_the_mean_of_the_nearest() -> None:
    deltas = crowd(9)
    deltas[2] *= -1
    scores = brute_force_krum(deltas, 2)
    krum = build("krum", 0.3).aggregate(deltas, NAMES[:9], np.full(9, 100), Reputation())
    np.testing.assert_allclose(krum.delta, deltas[scores.argmin()], rtol=1e-6)
    several = build("multi-krum", 0.3).aggregate(deltas, NAMES[:9], np.full(9, 100), Reputation())
    np.testing.assert_allclose(several.delta, deltas[np.argsort(scores)[:7]].mean(axis=0), rtol=1e-4, atol=1e-6)
    assert several.scores[2].verdict == "reject"
    assert not several.scores[2].flagged, "Krum prefers, it does not accuse"


def test_the_gram_matrix_gives_the_distances_norms_and_cosines_of_the_updates() -> None:
    deltas = crowd(6, length=150_000)
    gram, wide = Gram.of(deltas, 16), deltas.astype(np.float64)
    np.testing.assert_allclose(gram.products, wide @ wide.T, rtol=1e-5)
    np.testing.assert_allclose(gram.squared_distances[1, 4], np.square(wide[1] - wide[4]).sum(), rtol=1e-4)
    units = wide / np.linalg.norm(wide, axis=1)[:, None]
    others = np.delete(units, 2, axis=0).sum(axis=0)
    assert gram.cosines_to_others()[2] == pytest.approx(units[2] @ others / np.linalg.norm(others), abs=1e-5)
    assert gram.blocks is not None
    np.testing.assert_allclose(gram.blocks.sum(axis=0), gram.products, rtol=1e-4)


def test_an_estimate_from_some_columns_is_of_all_of_them_however_unlike_they_are() -> None:
    deltas = crowd(6, length=300_000) * np.linspace(0.1, 3, 300_000, dtype=np.float32)
    some, whole = Gram.sampled(deltas), Gram.of(deltas)
    np.testing.assert_allclose(some.norms, whole.norms, rtol=0.05)
    np.testing.assert_allclose(some.squared_distances, whole.squared_distances, rtol=0.1)
    np.testing.assert_array_equal(Gram.sampled(deltas[:, :SAMPLE]).products, Gram.of(deltas[:, :SAMPLE]).products)


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 40), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=40, deadline=None)
def test_medians_are_numpys_to_the_bit(seed: int, count: int, width: int, kind: type) -> None:
    rows: np.ndarray = np.random.default_rng(seed).standard_normal((count, width)).astype(kind)
    np.testing.assert_array_equal(medians(rows), np.median(rows, axis=1))


def test_how_far_an_update_lies_off_is_its_median_distance_over_the_usual_one() -> None:
    deltas = crowd(7) * np.array([1, 1, 1, 1, 2, 3, -1], np.float32)[:, None]
    wide = deltas.astype(np.float64)
    others = [[np.linalg.norm(one - two) for two in np.delete(wide, place, axis=0)] for place, one in enumerate(wide)]
    np.testing.assert_allclose(off(Gram.of(deltas)), np.median(others, axis=1) / np.median(others), rtol=1e-4)


@pytest.mark.parametrize("factor", [-1.0, 10.0])
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ("guard", "z-score")])
def test_a_rule_that_flags_nobody_still_shows_the_update_that_stands_out(rule: str, factor: float) -> None:
    deltas = crowd(10)
    deltas[6] *= factor
    scores = build(rule, 0.3).aggregate(deltas, NAMES[:10], np.full(10, 50), Reputation()).scores
    odd, others = scores[6], [score for place, score in enumerate(scores) if place != 6]
    if rule == "norm-clipping" and factor == -1:
        assert odd.score == pytest.approx(1, abs=0.1), "it looks at lengths alone, and a flipped update has the usual one"
        return
    assert odd.score > odd.threshold
    assert odd.score > 1.5 * max(score.score for score in others)
    assert "farther from its neighbours" in odd.reason if "krum" in rule else "times the limit" in odd.reason
    assert not any(score.flagged for score in scores)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_every_rule_gives_a_finite_delta_and_a_score_each_for_any_number_of_updates(rule: str, count: int) -> None:
    aggregate = build(rule, 0.3).aggregate(crowd(count), NAMES[:count], np.full(count, 50), Reputation())
    assert np.isfinite(aggregate.delta).all()
    assert aggregate.delta.dtype == np.float32
    assert [score.device for score in aggregate.scores] == NAMES[:count]
    assert all(
        np.isfinite([score.score, score.threshold, score.weight, score.norm, score.cosine]).all() for score in aggregate.scores
    )
    assert all(len(score.peers) == count - 1 for score in aggregate.scores)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("count", "length"), [(10, 300_000), (33, 100_000)])
def test_aggregating_takes_little_memory_beside_the_updates(rule: str, count: int, length: int) -> None:
    deltas = crowd(count, length=length)
    deltas[0] *= -1
    tracemalloc.start()
    try:
        build(rule, 0.3).aggregate(deltas, NAMES[:count], np.full(count, 50), Reputation())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert deltas.nbytes + peak <= 1.3 * deltas.nbytes


@pytest.mark.parametrize("rule", RULES)
def test_updates_that_are_all_zero_leave_the_model_where_it_is(rule: str) -> None:
    aggregate = build(rule, 0.3).aggregate(np.zeros((6, 50), np.float32), NAMES[:6], np.full(6, 50), Reputation())
    assert not aggregate.delta.any()
    assert not any(score.flagged for score in aggregate.scores)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ("mean", "norm-clipping", "z-score")])
def test_no_minority_moves_a_robust_rule_far_from_the_honest_mean(rule: str) -> None:
    deltas = crowd(10)
    honest = deltas[3:].mean(axis=0)
    deltas[:3] = -30 * honest
    delta = build(rule, 0.3).aggregate(deltas, NAMES[:10], np.full(10, 50), Reputation()).delta
    assert np.linalg.norm(delta - honest) < 0.6 * np.linalg.norm(honest)


def test_a_lie_about_records_buys_a_device_no_more_than_twice_its_share() -> None:
    deltas = np.zeros((5, 3), np.float32)
    deltas[0] = 1
    aggregate = build("mean", 0.0).aggregate(deltas, NAMES[:5], np.array([10**8, 100, 100, 100, 100]), Reputation())
    np.testing.assert_allclose(aggregate.delta, 2 / 6)


@pytest.mark.parametrize(("share", "devices", "expected"), [(0.3, 10, 3), (0.3, 8, 2), (0.2, 5, 1), (0.49, 3, 1), (0.0, 9, 0)])
def test_a_share_of_attackers_is_counted_without_binary_surprises(share: float, devices: int, expected: int) -> None:
    assert attackers(share, devices) == expected


def test_a_rule_whose_theorem_does_not_hold_is_refused_beforehand() -> None:
    with pytest.raises(RuleUnfit, match="krum against 3 malicious of 8 devices needs at least 9 devices"):
        check_rule("krum", 0.4, 8)
    with pytest.raises(RuleUnfit, match="no aggregation rule 'gard'"):
        check_rule("gard", 0.3, 8)
    check_rule("guard", 0.3, 8)


@pytest.mark.parametrize("rule", ["geometric-median", "norm-clipping", "z-score"])
def test_what_is_no_defence_is_refused_as_one_and_alternatives_are_named(rule: str) -> None:
    with pytest.raises(RuleUnfit, match="alone is no defence") as raised:
        check_rule(rule, 0.2, 10)
    assert "guard, nnm, trimmed-mean or multi-krum" in raised.value.hint
    check_rule(rule, 0.0, 10)


def test_a_geometric_median_after_mixing_is_a_defence_and_the_guard_does_not_mix_twice() -> None:
    check_rule("geometric-median", 0.2, 10, "nearest")
    with pytest.raises(RuleUnfit, match="does not go with mixing"):
        check_rule("guard", 0.2, 10, "nearest")


def test_attackers_that_are_known_are_not_expected_among_the_rest() -> None:
    assert [attackers_among(0.3, 10, known) for known in (0, 1, 2)] == [3, 2, 1]
    assert [attackers_among(0.3, 10 - known, known) for known in range(5)] == [3, 2, 1, 0, 0]
    assert attackers_among(0.49, 3) == 1, "less than half, whatever the share says"


@pytest.mark.parametrize("rule", ["guard", "trimmed-mean", "nnm"])
def test_nobody_is_trimmed_for_attackers_that_are_out_already(rule: str) -> None:
    deltas, counts = crowd(7), np.full(7, 50)
    careful, whole = (build(rule, 0.3).aggregate(deltas, NAMES[:7], counts, Reputation(), out).delta for out in (0, 3))
    np.testing.assert_allclose(whole, deltas.mean(axis=0), atol=1e-5)
    assert np.abs(careful - whole).max() > 0.01, "two of seven may still be malicious where nobody is known"
