"""Server optimisers against Flower's own strategies, asked through their transport: one reply that holds the aggregate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvgM, FedYogi
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgefl.federation.optimisers import Optimiser, OptimiserMismatch
from edgefl.site.model import ServerOptimiser

SIZE = 7
FLOWERS: dict[str, Callable[[ServerOptimiser], Any]] = {
    "adam": lambda s: FedAdam(eta=s.learning_rate or 0.1, beta_1=s.beta1, beta_2=s.beta2, tau=s.tau),
    "yogi": lambda s: FedYogi(eta=s.learning_rate or 0.01, beta_1=s.beta1, beta_2=s.beta2, tau=s.tau),
    "momentum": lambda s: FedAvgM(server_learning_rate=s.learning_rate or 1.0, server_momentum=s.beta1),
}
VALUES = st.floats(-1, 1, width=32)
ROUNDS = st.lists(st.lists(VALUES, min_size=SIZE, max_size=SIZE), min_size=1, max_size=6)


def records(model: np.ndarray) -> ArrayRecord:
    return ArrayRecord({"w": Array(model)})


def flowers_step(strategy: Any, round_: int, model: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Flower's strategy, given one reply; it is told where the model stands as its `configure_train` would tell it."""
    strategy.current_arrays = records(model) if isinstance(strategy, FedAvgM) else {"w": model}
    reply = Message(RecordDict({"arrays": records(model + delta), "metrics": MetricRecord({"num-examples": 1})}), 1, "train")
    found, _ = strategy.aggregate_train(round_, [reply])
    return np.asarray(found["w"].numpy())


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes a message only in a process that has a task."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


SETTINGS = st.builds(
    ServerOptimiser,
    name=st.sampled_from(sorted(FLOWERS)),
    learning_rate=st.one_of(st.none(), st.floats(1e-3, 1.0)),
    beta1=st.floats(0, 0.95),
    beta2=st.floats(0, 0.999),
    tau=st.floats(1e-3, 0.1),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=SETTINGS, deltas=ROUNDS)
def test_every_step_is_flowers(said: ServerOptimiser, deltas: list[list[float]]) -> None:
    flower, ours = FLOWERS[said.name](said), Optimiser(said)
    model = np.zeros(SIZE, np.float32)
    for round_, values in enumerate(deltas, start=1):
        delta = np.array(values, np.float32)
        move, ours = ours.step(delta)
        theirs = flowers_step(flower, round_, model, delta)
        np.testing.assert_allclose(model + move, theirs, rtol=2e-4, atol=2e-5)
        model = np.asarray(theirs, np.float32)
    assert ours.steps == len(deltas)


def test_none_moves_by_the_aggregate_and_keeps_nothing() -> None:
    delta = np.arange(SIZE, dtype=np.float32)
    move, after = Optimiser(ServerOptimiser()).step(delta)
    assert move is delta
    assert (after.steps, after.vectors) == (0, {})


@pytest.mark.parametrize("name", ["adam", "yogi", "momentum"])
def test_an_optimiser_goes_on_from_what_was_saved_as_if_nothing_had_happened(name: str) -> None:
    said = ServerOptimiser.model_validate({"name": name})
    deltas = np.random.default_rng(1).normal(size=(5, SIZE)).astype(np.float32)
    whole = cut = Optimiser(said)
    for place, delta in enumerate(deltas):
        move, whole = whole.step(delta)
        if place == 3:
            cut = Optimiser.restored(said, cut.steps, cut.vectors, SIZE)
        again, cut = cut.step(delta)
        assert move.dtype == np.float32
        assert np.array_equal(move, again)


def test_moments_of_another_optimiser_or_model_are_refused() -> None:
    _, adam = Optimiser(ServerOptimiser(name="adam")).step(np.ones(SIZE, np.float32))
    with pytest.raises(OptimiserMismatch):
        Optimiser.restored(ServerOptimiser(name="momentum"), adam.steps, adam.vectors, SIZE)
    with pytest.raises(OptimiserMismatch):
        Optimiser.restored(ServerOptimiser(name="adam"), adam.steps, adam.vectors, SIZE + 1)
