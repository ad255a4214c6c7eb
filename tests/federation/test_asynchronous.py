"""What an update that began with an older model weighs; what a second turn costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefl.events.schema import DeviceDropped, RoundFinished, UpdateReceived, UpdateRejected
from edgefl.federation import client
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import build
from edgefl.federation.asynchronous import weighed, weight
from edgefl.federation.hostconfig import APP_VARIABLE, Places
from edgefl.federation.local import initial_arrays
from edgefl.federation.messages import TrainRequest, pack
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.received import Received
from edgefl.federation.rounds import QuorumMissing
from edgefl.federation.task import load_task
from tests.federation.small import DEVICES, Died, InMemory, Small

OWN_PACE: dict[str, Any] = {
    "run": {"rounds": 3, "quorum": 1.0, "mode": "asynchronous", "deadline_s": 60},
    "privacy": {"mode": "none"},
    "compression": {"mode": "top-k", "keep": 0.3},
}
SOURCE = (Path(__file__).parent / "tiny_task.py").read_text()


@given(st.integers(0, 50), st.floats(0, 3))
def test_older_weighs_less_and_fresh_counts_whole(staleness: int, exponent: float) -> None:
    assert weight(0, exponent) == 1
    assert 0 < weight(staleness + 1, exponent) <= weight(staleness, exponent) <= 1
    assert weight(staleness, 1.0) == pytest.approx(1 / (1 + staleness))


def test_a_mean_of_unequally_old_updates_is_the_weighted_one() -> None:
    deltas = np.array([[1, 0], [0, 1], [4, 4]], np.float32)
    samples, weights = np.array([100, 100, 100]), [1.0, weight(1, 0.5), weight(3, 0.5)]
    same, counts = weighed("mean", deltas, samples, weights)
    found = build("mean", 0.0).aggregate(same, ["a", "b", "c"], counts, Reputation())
    np.testing.assert_allclose(found.delta, np.average(deltas, axis=0, weights=weights), rtol=1e-4)
    np.testing.assert_array_equal(same, deltas, "what is judged is what was sent")


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum", "multi-krum"])
def test_rules_that_read_no_counts_get_shorter_deltas(rule: str) -> None:
    deltas, samples = np.ones((3, 2), np.float32), np.array([5, 6, 7])
    shorter, counts = weighed(rule, deltas, samples, [1.0, 0.5, 0.25])
    np.testing.assert_array_equal(shorter, [[1, 1], [0.5, 0.5], [0.25, 0.25]])
    assert (counts == samples).all()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 4)).astype(np.float32)
    np.savez(tmp_path / "records.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    (tmp_path / "task.py").write_text(SOURCE)
    monkeypatch.setenv(APP_VARIABLE, str(tmp_path))
    return Places(tmp_path / "etc", tmp_path / "var")


def turn(places: Places, number: int, **privacy: object) -> tuple[object, dict[str, np.ndarray]]:
    """One more training on the same model."""
    root = places.config.parent
    places.config.mkdir(exist_ok=True)
    document = {
        "site": "demo",
        "name": "edge-1",
        "role": "device",
        "coordinator": {"name": "coordinator", "address": "10.77.0.10"},
        "task": {"module": "./task.py"},
        "run": {"rounds": 2, "mode": "asynchronous"},
        "privacy": privacy,
        "data": str(root),
    }
    places.host.write_text(json.dumps(document))
    request = TrainRequest(run="9", round=1, rounds=2, seed=1, turn=number)
    arrays = initial_arrays(load_task("./task.py", root), {}, 1)
    said, sent = client.answer(pack(request, arrays), TrainRequest, places)
    return said, dict(sent or {})


@pytest.mark.slow
def test_a_second_turn_on_the_same_model_is_charged_again_and_refused_over_the_budget(places: Places) -> None:
    terms = {"mode": "dp-sgd", "epsilon_limit": 4.0, "epsilon_per_run": 4.0}
    first, second, third = (turn(places, number, **terms)[0] for number in (1, 2, 3))
    assert [said.kind for said in (first, second, third)] == ["trained", "trained", "refused"]
    assert 0 < first.privacy.spent < second.privacy.spent <= 4.0 < third.spent + third.cost
    assert [charge.round for charge in Ledger(places.ledger).charges()] == [1, 1]


@pytest.mark.slow
def test_two_turns_on_the_same_model_draw_different_batches(places: Places) -> None:
    one, again, two = (turn(places, number, mode="none")[1] for number in (1, 1, 2))
    assert all((one[name] == again[name]).all() for name in one)
    assert any((one[name] != two[name]).any() for name in one)


def test_a_device_whose_updates_are_none_is_asked_once_a_round(tmp_path: Path) -> None:
    small = Small(tmp_path, OWN_PACE)
    with pytest.raises(QuorumMissing):
        small.run(1, liars=frozenset({"edge-2"}))
    rejected = Counter(event.round for event in small.events() if isinstance(event.body, UpdateRejected))
    assert rejected == {1: 1, 2: 1, 3: 1}, "the journal and the link are not a device's to fill"


@pytest.mark.slow
def test_a_run_that_died_goes_on_with_each_devices_next_turn(tmp_path: Path) -> None:
    small = Small(tmp_path, OWN_PACE)
    with pytest.raises(Died):
        small.run(1, dies_after=4 * len(DEVICES) + 1)
    exchange = small.run(2, resume="1")
    turns: dict[str, list[int]] = {device: [] for device in DEVICES}
    for (kind, device), request in zip(exchange.asked, exchange.heard, strict=True):
        if kind == "train":
            turns[device].append(request.turn)
    assert turns == {device: [3] for device in DEVICES}, "turns are of the training, or what compression left out is lost"
    assert [event.round for event in small.events() if isinstance(event.body, RoundFinished)] == [1, 2, 3]


SLOW: dict[str, Any] = {
    "run": {"rounds": 4, "quorum": 0.75, "mode": "asynchronous", "deadline_s": 60, "staleness_exponent": 1.0},
    "privacy": {"mode": "none"},
    "aggregation": {"rule": "mean", "byzantine": 0.0},
}
"""Three devices make a round; the fourth's update comes when the others have made three models."""
LATE = DEVICES[-1]


def wanted(small: Small, exchange: InMemory, late: float) -> np.ndarray:
    """The fourth round's move by the replies themselves. late: what the slow device's update counts."""
    replies = [arrival for arrival in exchange.replies if arrival.device != LATE]
    by_device = {device: [a for a in replies if a.device == device] for device in DEVICES if device != LATE}
    moves = [values(told[3].arrays) - small.model(1, 3) for told in by_device.values()]
    [old] = [arrival for arrival in exchange.replies if arrival.device == LATE][:1]
    moves.append(values(old.arrays) - small.model(1, 0))
    return np.average(moves, axis=0, weights=[1.0, 1.0, 1.0, late])


def values(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def staleness(small: Small) -> dict[int, int]:
    told = [event for event in small.events() if isinstance(event.body, UpdateReceived) and event.body.device == LATE]
    return {event.round: event.body.staleness for event in told if isinstance(event.body, UpdateReceived)}


def test_an_update_to_an_older_model_moves_the_newest_by_its_lesser_weight(tmp_path: Path) -> None:
    small = Small(tmp_path, SLOW)
    exchange = small.run(1, slow={LATE: 4})
    assert staleness(small) == {4: 3}
    moved = small.model(1, 4) - small.model(1, 3)
    np.testing.assert_allclose(moved, wanted(small, exchange, 1 / 4), atol=1e-5)
    assert np.abs(moved - wanted(small, exchange, 1.0)).max() > 1e-2, "a whole weight is another model"


def test_an_update_to_a_model_that_is_too_old_is_dropped_and_its_device_asked_again(tmp_path: Path) -> None:
    small = Small(tmp_path, {**SLOW, "run": {**SLOW["run"], "rounds": 5, "max_staleness": 2}})
    exchange = small.run(1, slow={LATE: 4})
    assert staleness(small) == {}
    [dropped] = [event for event in small.events() if isinstance(event.body, DeviceDropped)]
    assert (dropped.round, dropped.body.device) == (4, LATE)
    assert dropped.body.reason == "its update is 3 models old; run.max_staleness is 2"
    np.testing.assert_allclose(small.model(1, 4) - small.model(1, 3), wanted(small, exchange, 0.0), atol=1e-5)
    heard = [
        (request.round, request.turn)
        for asked, request in zip(exchange.asked, exchange.heard, strict=True)
        if asked == ("train", LATE)
    ]
    assert heard == [(1, 1), (5, 2)]


def test_a_round_of_replies_to_older_models_has_no_ratio_down() -> None:
    received = Received(bytes_updates=100, bytes_up=100)
    received.updates["edge-1"] = None  # type: ignore[assignment]  # counted, not read
    assert received.ratio(50) == {"up": 2.0}
