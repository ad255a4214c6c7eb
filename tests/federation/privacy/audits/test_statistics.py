"""The audits' statistics against independent references: scikit-learn's curves, scipy's beta, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import roc_auc_score, roc_curve

from edgefl.federation.privacy.audits.statistics import auc, epsilon_lower_bound, roc, tpr_at

scored = st.lists(st.tuples(st.integers(-5, 5).map(float), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({member for _, member in rows}) == 2
)


def split(rows: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in rows]), np.array([member for _, member in rows])


@pytest.mark.slow
@given(scored)
@settings(max_examples=40)
def test_the_area_is_that_of_scikit_learn_ties_among_them(rows):
    scores, member = split(rows)
    assert auc(scores, member).value == pytest.approx(roc_auc_score(member, scores))


@pytest.mark.slow
@settings(max_examples=40)
@given(scored, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_the_curve_is_that_of_scikit_learn(rows, fpr):
    scores, member = split(rows)
    false, true, _ = roc_curve(member, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc(scores, member), (false, true))
    assert tpr_at(scores, member, fpr) == pytest.approx(true[false <= fpr].max())


def test_scores_of_one_kind_have_no_curve():
    with pytest.raises(ValueError, match="members and non-members"):
        auc(np.ones(3), np.ones(3, bool))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, truth, hits = np.random.default_rng(1), 0.7602, 0  # of two unit normals one apart: Φ(1 / √2)
    for _ in range(300):
        member = rng.random(200) < 0.5
        found = auc(rng.standard_normal(200) + member, member)
        hits += found.low <= truth <= found.high
    assert 0.91 < hits / 300 < 0.98


def test_scores_that_depend_on_each_other_widen_the_interval():
    rng = np.random.default_rng(2)
    member = rng.random(60) < 0.5
    once = auc(rng.standard_normal(60) + member, member)
    scores = rng.standard_normal(60) + member
    once = auc(scores, member)
    copied = auc(np.repeat(scores, 20), np.repeat(member, 20), (np.repeat(np.arange(60), 20),))
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.02)
    assert (naive := auc(np.repeat(scores, 20), np.repeat(member, 20))).high - naive.low < 0.3 * (once.high - once.low)


@settings(max_examples=40)
@given(st.integers(1, 400), st.data())
def test_without_delta_the_bound_is_clopper_and_pearsons(guesses, data):
    right = data.draw(st.integers(0, guesses))
    low = beta.ppf(0.05, right, guesses - right + 1) if right else 0.0
    expected = max(0.0, math.log(low / (1 - low))) if low > 0 else 0.0
    assert epsilon_lower_bound(right, guesses, guesses, 0.0) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@given(st.integers(1, 200), st.data(), st.sampled_from([1e-6, 1e-5, 1e-4]))
@settings(max_examples=50)
def test_delta_and_fewer_right_guesses_only_lower_the_bound(guesses, data, delta):
    right = data.draw(st.integers(1, guesses))
    found = epsilon_lower_bound(right, guesses, 1000, delta)
    assert found <= epsilon_lower_bound(right, guesses, 1000, 0.0) + 1e-6
    assert epsilon_lower_bound(right - 1, guesses, 1000, delta) <= found + 1e-6


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_randomised_response_is_never_said_to_leak_more_than_it_does(epsilon):
    """The mechanism that leaks the most: each membership is told rightly with probability e^ε / (1 + e^ε)."""
    rng = np.random.default_rng(4)
    right = rng.binomial(2000, 1 / (1 + math.exp(-epsilon)), 100)
    found = np.array([epsilon_lower_bound(int(one), 2000, 2000, 0.0) for one in right])
    assert (found > epsilon).mean() <= 0.1  # 5 % are allowed
    assert np.median(found) > 0.8 * epsilon


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="5 right of 4"):
        epsilon_lower_bound(5, 4, 10, 0.0)
