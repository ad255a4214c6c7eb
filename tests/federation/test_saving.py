"""A run whose ServerApp dies anywhere goes on as if nothing had happened: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgefl.events.journal import Journal
from edgefl.events.schema import FlagRaised, RoundFinished, RunStarted, UpdateScored
from edgefl.federation import saving
from edgefl.federation.aggregation.reputation import Standing
from edgefl.federation.checkpoint import CheckpointUnusable, Models, Version
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.retention import best
from edgefl.federation.rounds import RunInvalid
from edgefl.federation.saving import Saving
from tests.federation.small import DEVICES, Died, Small

ROUNDS = 3
SECTIONS: dict[str, Any] = {
    "run": {"rounds": ROUNDS, "quorum": 1.0},
    "privacy": {"mode": "none"},
    "compression": {"mode": "top-k", "keep": 0.3, "down": "quantised"},
    "aggregation": {"rule": "guard", "byzantine": 0.3, "optimiser": {"name": "momentum", "beta1": 0.5}},
}


@contextmanager
def death(before_step: int, round_: int, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Die in a round's saving, before its n-th effect on the disk; yields the effects that were had."""
    had: list[str] = []
    saving = False

    def lethal(name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **options: Any) -> Any:
            if saving:
                if len(had) + 1 == before_step:
                    raise Died(name)
                had.append(name)
            return effect(*arguments, **options)

        return done

    def watched(method: Callable[..., Any], number: Callable[..., int]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            nonlocal saving
            saving = number(*arguments) == round_
            try:
                return method(*arguments, **options)
            finally:
                saving = False

        return called

    with patch.context() as context:
        context.setattr(os, "fsync", lethal("fsync", os.fsync))
        context.setattr(Path, "replace", lethal("replace", Path.replace))
        context.setattr(Path, "unlink", lethal("unlink", Path.unlink))
        context.setattr(Journal, "append_all", lethal("append", Journal.append_all))
        context.setattr(Saving, "stage", watched(Saving.stage, lambda _, number, *rest: number))
        context.setattr(Saving, "commit", watched(Saving.commit, lambda _, staged, *rest: staged.round))
        yield had


def last(small: Small) -> Version:
    return Models(small.places("coordinator").models).versions()[-1]


def model(small: Small) -> dict[str, np.ndarray]:
    models = Models(small.places("coordinator").models)
    return models.arrays(models.versions()[-1])


def said(small: Small, kind: type) -> list[tuple[int, str]]:
    return [(event.round, getattr(event.body, "device", "")) for event in small.events() if isinstance(event.body, kind)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Small:
    small = Small(tmp_path_factory.mktemp("whole"), SECTIONS)
    small.run(1)
    return small


@pytest.mark.slow
def test_a_death_while_devices_train_charges_nobody_twice(tmp_path: Path) -> None:
    small = Small(tmp_path, {**SECTIONS, "privacy": {"mode": "dp-sgd", "epsilon_per_run": 4.0, "epsilon_limit": 8.0}})
    with pytest.raises(Died):
        small.run(1, dies_after=2 * 2 * len(DEVICES) - len(DEVICES) - 1)  # one device of the second round has not been asked yet
    asked = small.run(2, resume="1").asked
    assert asked[: len(DEVICES)] == [("train", device) for device in DEVICES], "the second round is done again"
    small.run(3, resume="2", rounds=ROUNDS + 1)
    for device in DEVICES:
        charges = Ledger(small.places(device).ledger).charges()
        assert [(charge.run, charge.round) for charge in charges] == [("1", 1), ("1", 2), ("1", 3), ("1", 4)]
    assert [round_ for round_, _ in said(small, RoundFinished)] == [1, 2, 3, 4]
    assert {device: standing["rounds"] for device, standing in last(small).reputation.items()} == dict.fromkeys(DEVICES, 4)
    assert [event.body.resumes for event in small.events() if isinstance(event.body, RunStarted)] == ["", "1", "1"]


@pytest.mark.slow
def test_a_run_that_died_before_its_first_round_counted_begins_with_the_same_model(tmp_path: Path, uninterrupted: Small) -> None:
    small = Small(tmp_path, SECTIONS)
    with pytest.raises(Died):
        small.run(1, dies_after=1)
    small.run(2, resume="1")
    assert [round_ for round_, _ in said(small, RoundFinished)] == [1, 2, 3]
    assert last(small).reputation == last(uninterrupted).reputation
    assert model(small).keys() == model(uninterrupted).keys()
    assert all(np.array_equal(array, model(uninterrupted)[name]) for name, array in model(small).items())


@pytest.mark.slow
def test_a_run_from_a_chosen_version_begins_with_its_model_and_says_so(tmp_path: Path) -> None:
    small = Small(tmp_path, SECTIONS)
    small.run(1)
    models = Models(small.places("coordinator").models)
    chosen = models.find("1/2")
    small.run(2, start="1/2")
    first = models.find("2/0")
    assert (first.parent, first.parent_sha256) == (chosen.name, chosen.sha256)
    begun = models.arrays(first)
    assert all(np.array_equal(array, begun[name]) for name, array in models.arrays(chosen).items())
    started = [event.body for event in small.events() if isinstance(event.body, RunStarted)][-1]
    assert (started.start, started.start_sha256, started.first_round) == ("1/2", chosen.sha256, 1)
    assert last(small).reputation["edge-1"]["rounds"] == 2 * ROUNDS, "what is known of the devices stays"


def test_every_version_says_what_it_came_from(uninterrupted: Small) -> None:
    versions = Models(uninterrupted.places("coordinator").models).versions()
    assert [version.name for version in versions] == [f"1/{round_}" for round_ in range(ROUNDS + 1)]
    events = {event.seq: event for event in uninterrupted.events()}
    results = {event.round: event.body for event in events.values() if isinstance(event.body, RoundFinished)}
    for parent, version in pairwise(versions):
        assert (version.parent, version.parent_sha256) == (parent.name, parent.sha256)
        assert events[version.journal_seq].hash == version.journal_hash
        result = results[version.round]
        assert (result.model_sha256, result.parent, result.parent_sha256) == (version.sha256, parent.name, parent.sha256)
        assert version.metrics["accuracy"] == result.accuracy
        assert version.site_hash == "5" * 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"aggregation": {"optimiser": {"name": "adam"}}}, "trained with the optimiser momentum"),
        ({"run": {"rounds": 2}}, None),
        ({"task": {"module": "./tiny_task.py"}}, "trained the task"),
    ],
)
def test_a_site_that_changed_meanwhile_is_no_reason_to_go_astray(tmp_path: Path, change: dict, says: str | None) -> None:
    small = Small(tmp_path, SECTIONS)
    with pytest.raises(Died):
        small.run(1, dies_after=2 * len(DEVICES) + 1)
    small.configure("coordinator", **change)
    if says is None:
        small.run(2, resume="1")
        assert last(small).round == ROUNDS, "the run goes on as it was planned"
        return
    with pytest.raises(RunInvalid, match=says):
        small.run(2, resume="1")


@pytest.mark.slow
def test_a_run_that_is_done_is_not_resumed(tmp_path: Path) -> None:
    small = Small(tmp_path, SECTIONS)
    small.run(1)
    with pytest.raises(RunInvalid, match="nothing is left") as raised:
        small.run(2, resume="1")
    assert "--rounds 4" in raised.value.hint


@pytest.mark.slow
def test_a_round_that_counted_is_not_done_again_when_its_model_is_gone(tmp_path: Path) -> None:
    small = Small(tmp_path, SECTIONS)
    small.run(1)
    models = Models(small.places("coordinator").models)
    models.path("1", 3, ".json").unlink()
    with pytest.raises(CheckpointUnusable, match="finished round 3, and of its models 1/2 is the newest") as raised:
        small.run(2, resume="1", rounds=5)
    assert "edgefl models rollback 1/2" in raised.value.hint
    assert small.run(3, start="1/2").asked, "a training of its own may begin with it"


@pytest.mark.slow
def test_another_task_of_the_same_shape_does_not_go_on_from_it(tmp_path: Path) -> None:
    small = Small(tmp_path, SECTIONS)
    small.run(1)
    models = Models(small.places("coordinator").models)
    models.commit(models.find("1/3").model_copy(update={"task": "./other_task.py"}))
    with pytest.raises(RunInvalid, match=r"trained the task ./other_task.py"):
        small.run(2, resume="1", rounds=5)


@pytest.mark.slow
def test_a_pardon_outlives_a_run_that_died_before_a_round_counted(tmp_path: Path) -> None:
    small = Small(tmp_path, {**SECTIONS, "run": {"rounds": ROUNDS, "quorum": 0.7}})
    with pytest.raises(Died):
        small.run(1, dies_after=2 * len(DEVICES))
    models = Models(small.places("coordinator").models)
    counted = models.versions()[-1]
    standings = {**counted.reputation, "edge-2": asdict(Standing(conduct="quarantined", out=20, terms=1))}
    models.commit(counted.model_copy(update={"reputation": standings}))
    with pytest.raises(Died):
        small.run(2, resume="1", pardon=["edge-2"], dies_after=1)
    assert ("train", "edge-2") in small.run(3, resume="1").asked
    assert last(small).reputation["edge-2"]["conduct"] == "trusted"


@pytest.mark.slow
def test_a_new_run_too_says_what_the_one_before_had_no_time_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with death(10_000, 2, monkeypatch) as had:
        Small(tmp_path / "whole", SECTIONS).run(1)
    small = Small(tmp_path / "cut", SECTIONS)
    with pytest.raises(Died), death(had.index("append") + 1, 2, monkeypatch):
        small.run(1)
    assert said(small, RoundFinished) == [(1, "")]
    small.run(2)
    assert said(small, RoundFinished) == [(1, ""), (2, ""), (1, ""), (2, ""), (3, "")]
    assert said(small, UpdateScored)[:8] == [(round_, device) for round_ in (1, 2) for device in DEVICES]


def test_a_run_does_not_both_go_on_and_start_from_a_version(tmp_path: Path) -> None:
    with pytest.raises(RunInvalid, match="not both"):
        Small(tmp_path, SECTIONS).run(1, resume="1", start="1/2")


@pytest.mark.slow
def test_old_versions_go_when_the_disk_is_full_of_them(tmp_path: Path) -> None:
    small = Small(tmp_path, {**SECTIONS, "models": {"keep_mb": 1}, "run": {"rounds": 4, "quorum": 1.0}})
    with patch.object(saving, "MIB", 8 * 1024):
        small.run(1)
    versions = Models(small.places("coordinator").models).versions()
    assert versions[-1].round == 4
    assert 0 < len(versions) < 5
    assert next(iter(best(versions).values())).metrics["accuracy"] == max(
        event.body.accuracy for event in small.events() if isinstance(event.body, RoundFinished)
    )


STEPS = 12
"""Effects that saving a round has on the disk, with compression and momentum: three files, the journal, what is deleted."""


@pytest.mark.slow
def test_saving_a_round_has_as_many_steps_as_are_tried_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with death(10_000, 2, monkeypatch) as had:
        Small(tmp_path, SECTIONS).run(1)
    assert len(had) == STEPS - 1, had
    assert had.index("append") > had.index("fsync")


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_death_between_any_two_steps_of_saving_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Small, step: int
) -> None:
    small = Small(tmp_path, SECTIONS)
    try:
        with death(step, 2, monkeypatch):
            small.run(1)
    except Died:
        small.run(2, resume="1")
    else:
        assert step == STEPS, "only the death after the last step is none"
    whole = model(uninterrupted)
    assert all(np.array_equal(array, whole[name]) for name, array in model(small).items())
    assert last(small).reputation == last(uninterrupted).reputation
    assert last(small).steps == ROUNDS
    assert [round_ for round_, _ in said(small, RoundFinished)] == [1, 2, 3]
    assert said(small, UpdateScored) == said(uninterrupted, UpdateScored)
    assert said(small, FlagRaised) == said(uninterrupted, FlagRaised)
    for device in DEVICES:
        left, whole = (load_file(federation.places(device).feedback) for federation in (small, uninterrupted))
        assert all(np.array_equal(left[name], whole[name]) for name in ("before", "after")), "what is left to send is the same"
    files = sorted(path.suffix for path in small.places("coordinator").models.rglob("*") if path.is_file())
    assert ".new" not in files
    assert files.count(".json") == files.count(".safetensors") == ROUNDS + 1
