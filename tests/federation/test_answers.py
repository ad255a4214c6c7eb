"""A question that was answered gets the same answer, and no other does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefl.federation.answers import Answers, question
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.messages import Trained, TrainRequest

MODEL = {"w": np.arange(6, dtype=np.float32)}
REPLY = Trained(samples=64, metrics={"loss": float("nan")})
REQUEST = {"run": "2", "resumes": "1", "round": 3, "rounds": 5, "seed": 7}


def host(**changes: object) -> HostConfig:
    coordinator = {"name": "coordinator", "address": "10.77.0.10"}
    return HostConfig.model_validate({
        "site": "clinic", "name": "edge-1", "role": "device", "coordinator": coordinator, **changes
    })  # fmt: skip


def asked(model: dict = MODEL, terms: HostConfig | None = None, **changes: object) -> str:
    return question(TrainRequest.model_validate({**REQUEST, **changes}), model, terms or host())


def test_the_run_that_goes_on_from_a_dead_one_gets_its_answer(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "app" / "answer.safetensors")
    assert answers.given(asked(run="1", resumes="")) is None
    answers.keep(asked(run="1", resumes=""), REPLY, MODEL)
    said, arrays = Answers(answers.path).given(asked()) or pytest.fail("the first run's answer is the second one's")
    assert said.samples == 64
    assert np.isnan(said.metrics["loss"])
    assert np.array_equal(arrays["w"], MODEL["w"])


@pytest.mark.parametrize(
    "other",
    [
        asked(resumes=""),
        asked(round=4),
        asked(rounds=6),
        asked(seed=8),
        asked(parameters={"learning_rate": 0.1}),
        asked({"w": MODEL["w"] + 1}),
        asked({"v": MODEL["w"]}),
        asked({"w": MODEL["w"].reshape(2, 3)}),
        asked({"w": MODEL["w"].astype(np.float64)}),
        asked(terms=host(privacy={"epsilon_per_run": 1.0})),
        asked(terms=host(fab_sha256="1" * 64)),
        asked(terms=host(compression={"mode": "top-k"})),
    ],
)
def test_another_question_is_none_that_was_answered(tmp_path: Path, other: str) -> None:
    answers = Answers(tmp_path / "answer.safetensors")
    answers.keep(asked(), REPLY, MODEL)
    assert answers.given(other) is None


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, b"{}"])
def test_a_damaged_answer_is_none(tmp_path: Path, damage: bytes) -> None:
    answers = Answers(tmp_path / "answer.safetensors")
    answers.path.write_bytes(damage)
    assert answers.given(asked()) is None


def test_a_disk_that_takes_nothing_costs_no_round(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("no directory")
    answers = Answers(tmp_path / "app" / "answer.safetensors")
    answers.keep(asked(), REPLY, MODEL)
    assert answers.given(asked()) is None
