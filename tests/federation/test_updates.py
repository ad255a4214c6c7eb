"""Both forms in which an update travels give the same vector, and what is neither is rejected with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefl.federation.aggregation.validate import Rejection
from edgefl.federation.aggregation.vectors import Template
from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.messages import DELTA, Trained, TrainRequest, pack, unpack
from edgefl.federation.updates import incoming, outgoing
from edgefl.site.model import Compression

RNG = np.random.default_rng(2)
START = {"w": RNG.normal(size=(20, 10)).astype(np.float32), "b": np.zeros(10, np.float32)}
AFTER = {name: array + RNG.normal(size=array.shape).astype(np.float32) * 0.1 for name, array in START.items()}
TEMPLATE = Template.of(START)
REQUEST = TrainRequest(run="1", round=1, rounds=2, seed=1)


@pytest.mark.parametrize(("mode", "most_off"), [("none", 1e-6), ("quantised", 2e-3)])
def test_what_a_device_sends_arrives_as_what_it_changed(tmp_path: Path, mode: str, most_off: float) -> None:
    settings = Compression.model_validate({"mode": mode})
    sent, encoded = outgoing(AFTER, START, settings, Feedback(tmp_path / "f"), REQUEST)
    assert encoded == (mode != "none")
    reply = Trained(samples=1, metrics={}, encoding="delta" if encoded else "model")
    said, arrays = unpack(pack(reply, sent))
    delta = incoming(said, arrays, START, TEMPLATE)
    assert isinstance(delta, np.ndarray)
    np.testing.assert_allclose(delta, TEMPLATE.delta(AFTER, START), atol=most_off)


def test_a_model_that_diverged_travels_as_it_is_and_spoils_no_later_round(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path / "f")
    spoiled = {**AFTER, "b": np.full(10, np.nan, np.float32)}
    sent, encoded = outgoing(spoiled, START, Compression(mode="top-k"), feedback, REQUEST)
    assert not encoded
    assert not feedback.path.exists()
    rejection = incoming(Trained(samples=1, metrics={}), sent, START, TEMPLATE)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "not_finite"


@pytest.mark.parametrize(
    "arrays", [{}, START, {DELTA: np.zeros(9, np.uint8)}, {DELTA: np.zeros(9, np.float32)}, {DELTA: np.zeros((3, 3), np.uint8)}]
)
def test_what_only_claims_to_be_encoded_is_undecodable(arrays: dict[str, np.ndarray]) -> None:
    rejection = incoming(Trained(samples=1, metrics={}, encoding="delta"), arrays, START, TEMPLATE)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "undecodable"


def test_a_distance_that_overflows_is_not_finite() -> None:
    huge = {name: np.full_like(array, -3e38) for name, array in START.items()}
    far = {name: np.full_like(array, 3e38) for name, array in START.items()}
    rejection = incoming(Trained(samples=1, metrics={}), far, huge, TEMPLATE)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "not_finite"
