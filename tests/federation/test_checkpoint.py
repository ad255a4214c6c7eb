"""Versions of the global model on disk: whole or not there, and checked whenever they are read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgefl.federation import checkpoint
from edgefl.federation.checkpoint import CheckpointUnusable, Models, Version

MODEL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.float32)}
MOMENTS = {"moment": np.ones(8, np.float32)}


def saved(models: Models, run: str, round_: int, *, seq: int = 0, moments: dict = MOMENTS, **said: object) -> Version:
    staged = models.stage(run, round_, MODEL, moments)
    about = {"training": run, "site": "clinic", "site_hash": "", "task": "t", "rule": "guard", **said}
    version = Version(
        run=run,
        round=round_,
        sha256=staged.sha256,
        bytes=staged.bytes,
        moments_sha256=staged.moments_sha256,
        journal_seq=seq or round_,
        journal_hash="0" * 64,
        **about,  # type: ignore[arg-type]
    )
    models.commit(version)
    return version


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path)


def test_the_last_version_comes_back_with_its_model_and_moments(models: Models) -> None:
    saved(models, "42", 1)
    second = saved(models, "42", 2)
    found = Models(models.root).last("42")
    assert found == second
    assert hashlib.sha256(models.path("42", 2).read_bytes()).hexdigest() == found.sha256
    assert all(np.array_equal(models.arrays(found)[name], MODEL[name]) for name in MODEL)
    assert np.array_equal(models.moments(found)["moment"], MOMENTS["moment"])
    files = ["1.json", "1.safetensors", "2.json", "2.moments", "2.safetensors"]
    assert sorted(path.name for path in (models.root / "42").iterdir()) == files, "only the newest has moments"


def test_versions_are_in_the_order_in_which_they_were_made_whatever_their_runs_are_called(models: Models) -> None:
    for seq, (run, round_) in enumerate([("9", 0), ("9", 1), ("3", 0), ("3", 1), ("9", 2)], start=1):
        saved(models, run, round_, seq=seq)
    assert [version.name for version in models.versions()] == ["9/0", "9/1", "3/0", "3/1", "9/2"]


def test_a_run_that_went_on_from_another_is_the_same_training(models: Models) -> None:
    saved(models, "1", 4)
    saved(models, "2", 5, training="1")
    saved(models, "7", 1, seq=9)
    assert models.last("1").name == models.last("2").name == "2/5"
    with pytest.raises(CheckpointUnusable, match="run 3 left nothing"):
        models.last("3")


@pytest.mark.parametrize("suffix", [checkpoint.MODEL, checkpoint.MOMENTS])
def test_what_was_changed_is_refused(models: Models, suffix: str) -> None:
    version = saved(models, "42", 1)
    path = models.path("42", 1, suffix)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointUnusable, match="its hash differs"):
        models.arrays(version) if suffix == checkpoint.MODEL else models.moments(version)


def test_a_damaged_record_is_no_version(models: Models) -> None:
    saved(models, "42", 1)
    saved(models, "42", 2)
    record = models.path("42", 2, checkpoint.RECORD)
    record.write_text(record.read_text().replace("clinic", "clonic"))
    assert [version.round for version in models.versions()] == [1]
    with pytest.raises(CheckpointUnusable, match="its record is damaged"):
        models.find("42/2")


@pytest.mark.parametrize("name", ["7/1", "42/9", "../42/1", "42", "", "a/b", "42/1/2"])
def test_an_unknown_version_is_said_to_be_so(models: Models, name: str) -> None:
    saved(models, "42", 1)
    with pytest.raises(CheckpointUnusable, match="there is no model"):
        models.find(name)


def test_what_was_staged_without_a_record_never_was_and_is_swept(models: Models) -> None:
    first = saved(models, "42", 1)
    models.stage("42", 2, MODEL, MOMENTS)
    (models.root / "42" / "3.safetensors.new").touch()
    assert models.last("42") == first
    models.sweep(models.versions())
    assert sorted(path.name for path in (models.root / "42").iterdir()) == ["1.json", "1.moments", "1.safetensors"]


def test_what_is_removed_is_gone_with_its_directory(models: Models) -> None:
    models.remove(saved(models, "42", 1))
    assert list(models.root.iterdir()) == []


def test_a_full_disk_is_an_error_that_says_what_to_do(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(CheckpointUnusable, match="No space left") as raised:
        models.stage("42", 1, MODEL, {})
    assert "--resume" in raised.value.hint
    assert not list(models.root.rglob("*.new"))


def test_one_process_writes_at_a_time(models: Models) -> None:
    with models.alone():
        with pytest.raises(CheckpointUnusable, match="another run still writes"), Models(models.root).alone(patience_s=0.0):
            pytest.fail("two of them write")
        saved(models, "42", 1)
    with Models(models.root).alone(patience_s=0.0):
        assert [version.name for version in models.versions()] == ["42/1"]
