"""The guard: who is flagged, who is not, and what the past adds."""

from collections.abc import Callable

import numpy as np
import pytest

from edgefl.federation.aggregation.gram import Gram
from edgefl.federation.aggregation.reputation import Reputation, Standing
from edgefl.federation.aggregation.rules import build
from edgefl.federation.aggregation.scores import Aggregate
from edgefl.lab import attacks

NAMES = [f"edge-{number:02}" for number in range(1, 11)]


def updates(seed: int, *, count: int = 8, length: int = 6634, signal: float = 1.0, noise: float = 1.0) -> np.ndarray:
    """What honest devices send: something in common in a few columns, and noise in all, as DP-SGD gives."""
    rng = np.random.default_rng(seed)
    shared = np.zeros(length)
    shared[-length // 10 :] = signal
    return (shared * rng.standard_normal(length) + noise * rng.standard_normal((count, length))).astype(np.float32)


def judged(deltas: np.ndarray, history: Reputation | None = None) -> Aggregate:
    count = len(deltas)
    return build("guard", 0.3).aggregate(deltas, NAMES[:count], np.full(count, 4000), history or Reputation())


def flagged(aggregate: Aggregate) -> set[str]:
    return {score.device for score in aggregate.scores if score.flagged}


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_update_is_found_under_noise_that_hides_it_from_plain_cosines(seed: int) -> None:
    deltas = updates(seed, signal=0.7, noise=1.0)
    plain = Gram.of(deltas).cosines_to_others()
    assert plain.max() < 0.3, "the test is only worth something where plain cosines are small"
    deltas[4] *= -1
    aggregate = judged(deltas)
    assert flagged(aggregate) == {"edge-05"}
    assert "points away" in aggregate.scores[4].reason
    assert aggregate.scores[4].weight == 0


@pytest.mark.slow
@pytest.mark.parametrize("signal", [0.0, 0.2, 0.7, 3.0])
def test_honest_devices_are_not_flagged_however_noisy_they_are(signal: float) -> None:
    assert [flagged(judged(updates(seed, signal=signal))) for seed in range(30)] == [set()] * 30


def test_an_update_of_unusual_length_is_rejected_and_said_to_be_so() -> None:
    deltas = updates(1)
    deltas[2] *= 10
    aggregate = judged(deltas)
    assert flagged(aggregate) == {"edge-03"}
    assert "times as long" in aggregate.scores[2].reason


@pytest.mark.parametrize("byzantine", [0.0, 0.3])
def test_an_update_that_is_doubtful_counts_less_and_pulls_less(byzantine: float) -> None:
    deltas = updates(1, signal=2.0)
    deltas[2] *= 1.6  # log 1.6 is 3.1 of the least spreads, and the limit is 4
    guard, counts = build("guard", byzantine), np.full(8, 4000)
    aggregate = guard.aggregate(deltas, NAMES[:8], counts, Reputation())
    odd, *others = sorted(aggregate.scores, key=lambda score: score.weight)
    assert (odd.device, odd.verdict, odd.flagged) == ("edge-03", "down-weight", False)
    assert 0.625 * odd.threshold < odd.score < odd.threshold
    assert 0.25 < odd.weight < 1
    assert {score.weight for score in others} == {1.0}
    assert "times as long" in odd.reason
    weights = np.array([score.weight for score in aggregate.scores])
    lesser, whole = np.average(deltas, axis=0, weights=weights), deltas.mean(axis=0)
    if byzantine == 0:
        np.testing.assert_allclose(aggregate.delta, lesser, rtol=1e-3, atol=1e-5)
    assert np.linalg.norm(aggregate.delta) < np.linalg.norm(whole)


@pytest.mark.parametrize("seed", range(10))
def test_noise_of_the_usual_length_in_place_of_an_update_is_found(seed: int) -> None:
    deltas = updates(seed, signal=2.0)
    noise = np.random.default_rng(seed + 100).standard_normal(deltas.shape[1])
    deltas[1] = noise * np.linalg.norm(deltas[0]) / np.linalg.norm(noise)
    assert flagged(judged(deltas)) == {"edge-02"}


def test_copies_of_one_update_are_found() -> None:
    deltas = updates(2, count=10)
    deltas[:3] = attacks.colluding_copies(deltas[3:], 3, np.random.default_rng(0))
    assert {"edge-01", "edge-02", "edge-03"} <= flagged(judged(deltas))


@pytest.mark.parametrize(
    ("spoil", "digits"),
    [
        (lambda deltas: deltas[:1] * -1, "2"),
        (lambda deltas: deltas[:1] * 10, "2"),
        (lambda deltas: deltas[:1] * 1000, "3"),
        (lambda deltas: np.stack([deltas[0], deltas[0] * 1.01]), "33"),
    ],
)
def test_only_what_no_honest_device_sends_speaks_for_leaving_it_out(
    spoil: Callable[[np.ndarray], np.ndarray], digits: str
) -> None:
    deltas = updates(2, signal=2.0)
    deltas[: len(digits)] = spoil(deltas)
    reputation = judged(deltas).reputation
    assert [reputation.of(device).recent for device in NAMES[:8]] == [*digits, *"0" * (8 - len(digits))]


@pytest.mark.parametrize(("length", "kept"), [(23, 5), (23, 23), (6634, 100), (6634, 0)])
def test_updates_of_few_values_are_no_copies_however_alike(length: int, kept: int) -> None:
    deltas = np.zeros((8, length), np.float32)
    for row, whole in zip(deltas, updates(9, length=length), strict=True):
        row[np.argsort(-np.abs(whole))[:kept]] = 1.0  # top-k may keep the same few of two devices, or nothing at all
    deltas[:, -1] += np.arange(8)  # the others are far apart
    deltas[4] = deltas[6]
    assert not any("copy" in score.reason for score in judged(deltas).scores)


def test_copies_are_found_among_updates_that_are_sparse() -> None:
    deltas = updates(2, count=10)
    kept = np.argsort(-np.abs(deltas), axis=1)[:, :300]
    sparse = np.zeros_like(deltas)
    np.put_along_axis(sparse, kept, np.take_along_axis(deltas, kept, 1), 1)
    sparse[1] = 1.01 * sparse[0]
    assert [score.device for score in judged(sparse).scores if "copy" in score.reason] == ["edge-01", "edge-02"]


def test_equal_updates_of_all_devices_accuse_nobody() -> None:
    deltas = np.repeat(updates(3)[:1], 8, axis=0)
    aggregate = judged(deltas)
    assert flagged(aggregate) == set()
    np.testing.assert_allclose(aggregate.delta, deltas[0], rtol=1e-5)


def test_a_majority_is_never_rejected() -> None:
    deltas = updates(4) * np.array([1, 1, 10, 100, 1000, 1e4, 1e5, 1e6], np.float32)[:, None]
    assert sum(score.verdict == "reject" for score in judged(deltas).scores) < 4


def test_who_went_another_way_while_there_was_a_common_one_is_rejected_when_there_is_none_any_more() -> None:
    strayed = Standing(rounds=3, common=2.0, followed=0.2)
    deltas = updates(5, signal=0.0)
    assert flagged(judged(deltas)) == set()
    aggregate = judged(deltas, Reputation({"edge-07": strayed, "edge-02": Standing(rounds=3, common=2.0, followed=1.4)}))
    assert flagged(aggregate) == {"edge-07"}
    assert aggregate.scores[6].reason == "followed 12% of its peers' direction in all rounds"
    assert aggregate.reputation.of("edge-07").recent == "1", "the same evidence is not counted again as if it were new"
    assert aggregate.scores[1].verdict == "accept"


def test_rounds_without_agreement_say_nothing_of_a_device() -> None:
    history = Reputation()
    for seed in range(10):
        history = judged(updates(seed, signal=0.0), history).reputation
    assert [history.of(device).following for device in NAMES[:8]] == [1.0] * 8


def test_a_short_update_is_no_evidence() -> None:
    deltas = updates(8)
    deltas[3] *= 0.05
    assert flagged(judged(deltas)) == set()


def test_a_device_that_behaves_again_is_let_in_again_and_regains_trust() -> None:
    past = Standing(evidence=2.0, trust=0.25, rounds=5, flags=2, streak=2, common=1.0, followed=-1.0)
    history = Reputation({"edge-05": past})
    aggregate = judged(updates(6, signal=3.0), history)
    assert flagged(aggregate) == {"edge-05"}
    for seed in range(7, 12):
        aggregate = judged(updates(seed, signal=3.0), aggregate.reputation)
    assert flagged(aggregate) == set()
    after = aggregate.reputation.of("edge-05")
    assert after.streak == 0
    assert after.trust > 0.125, "half of what it had, for the first round, and a little more for each good one"
    assert history.of("edge-05") == past, "the past is a value, not changed by judging"


def test_the_blend_is_near_the_honest_mean_with_three_of_ten_attacking() -> None:
    deltas = updates(7, count=10, signal=2.0, noise=0.5)
    honest = deltas[3:].mean(axis=0)
    for lies in (attacks.alie, attacks.inner_product, attacks.colluding_copies):
        attacked = deltas.copy()
        attacked[:3] = lies(deltas[3:], 3, np.random.default_rng(1))
        assert np.linalg.norm(judged(attacked).delta - honest) < 0.5 * np.linalg.norm(honest)
