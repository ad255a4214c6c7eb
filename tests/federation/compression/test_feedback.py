"""Error feedback: nothing is lost for good, and nothing is sent twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefl.federation.compression.codec import decode
from edgefl.federation.compression.feedback import Feedback
from edgefl.site.model import Compression

TOP = Compression(mode="top-k", keep=0.1, bits=16)
RNG = np.random.default_rng(5)


@pytest.fixture
def feedback(tmp_path: Path) -> Feedback:
    return Feedback(tmp_path / "app" / "feedback.safetensors")


def delta() -> np.ndarray:
    return RNG.normal(size=200).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [TOP, Compression(mode="quantised", bits=1), Compression(mode="quantised", bits=4)])
def test_what_one_round_leaves_out_the_next_ones_send(feedback: Feedback, settings: Compression) -> None:
    constant = delta()
    sent = sum(decode(feedback.compress(constant, settings, "run", n), 200) for n in range(1, 201))
    assert np.abs(sent / 200 - constant).max() < 0.25 * np.abs(constant).max()
    once = decode(Feedback(feedback.path.with_name("fresh")).compress(constant, settings, "run", 1), 200)
    assert np.linalg.norm(sent / 200 - constant) < 0.3 * np.linalg.norm(once - constant)


def test_a_round_done_again_sends_the_same_and_not_more(feedback: Feedback) -> None:
    feedback.compress(delta(), TOP, "run", 1)
    second = delta()
    first_try = feedback.compress(second, TOP, "run", 2)
    assert feedback.compress(second, TOP, "run", 2) == first_try
    third = delta()
    carried = feedback.compress(third, TOP, "run", 3)
    assert carried != Feedback(feedback.path.with_name("fresh")).compress(third, TOP, "run", 3)


def test_another_training_begins_with_nothing(feedback: Feedback) -> None:
    feedback.compress(delta(), TOP, "1", 1)
    second = delta()
    other = feedback.compress(second, TOP, "2", 2)
    feedback.path.unlink()
    assert feedback.compress(second, TOP, "2", 2) == other


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, b"{}"])
def test_a_damaged_state_costs_what_it_held_and_no_round(feedback: Feedback, damage: bytes) -> None:
    one = delta()
    clean = feedback.compress(one, TOP, "run", 2)
    feedback.path.write_bytes(damage)
    assert feedback.compress(one, TOP, "run", 2) == clean


def test_a_model_of_another_size_begins_with_nothing(feedback: Feedback) -> None:
    feedback.compress(delta(), TOP, "run", 1)
    assert len(decode(feedback.compress(delta()[:50], TOP, "run", 2), 50)) == 50


def test_a_disk_that_takes_nothing_costs_what_was_left_out_and_no_round(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("no directory")
    sent = Feedback(tmp_path / "app" / "feedback.safetensors").compress(delta(), TOP, "run", 1)
    assert np.count_nonzero(decode(sent, 200)) == 20
