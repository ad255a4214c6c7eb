"""Global models on disk, and going on from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgefl.federation.checkpoint import Checkpoints, CheckpointUnusable

MODEL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.float32)}


def test_the_last_saved_model_comes_back_with_its_round_and_hash(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "42")
    checkpoints.save(1, {name: array + 1 for name, array in MODEL.items()})
    saved = checkpoints.save(2, MODEL)
    found, arrays = Checkpoints(tmp_path, "42").latest()
    assert found == saved
    assert found.round == 2
    assert hashlib.sha256(Path(saved.path).read_bytes()).hexdigest() == saved.sha256
    assert all(np.array_equal(arrays[name], MODEL[name]) for name in MODEL)
    assert sorted(path.name for path in (tmp_path / "42").iterdir()) == ["1.safetensors", "2.safetensors", "latest.json"]


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path, "42").save(1, MODEL)
    path = Path(saved.path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointUnusable, match="its hash differs"):
        Checkpoints(tmp_path, "42").latest()


def test_a_run_without_models_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match="run 42 left nothing"):
        Checkpoints(tmp_path, "42").latest()
