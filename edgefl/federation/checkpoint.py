"""Global models on the coordinator's disk: one file per round, and where a run stands, so that it can go on after a crash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgefl.errors import EdgeflError


class CheckpointUnusable(EdgeflError):
    """There is nothing to go on from, or it is not what was written."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A global model on disk. sha256: of the file, hex."""

    run: str
    round: int
    path: str
    sha256: str


class Checkpoints:
    """The models of one run, in `<models>/<run>/`."""

    def __init__(self, models: Path, run: str) -> None:
        self.run = run
        self.directory = models / run

    def save(self, round_: int, arrays: Mapping[str, NDArray[Any]]) -> Saved:
        """Write the model of a round; when this returns it is whole and on the disk, and the run goes on from it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        content = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"run": self.run, "round": str(round_)}
        )
        path = self.directory / f"{round_}.safetensors"
        _write(path, content)
        saved = Saved(self.run, round_, str(path), hashlib.sha256(content).hexdigest())
        _write(self.directory / "latest.json", json.dumps(asdict(saved), indent=2).encode())
        return saved

    def latest(self) -> tuple[Saved, dict[str, NDArray[Any]]]:
        """The last model that was saved, checked against its hash. Raises CheckpointUnusable."""
        try:
            saved = Saved(**json.loads((self.directory / "latest.json").read_text()))
            content = (self.directory / f"{saved.round}.safetensors").read_bytes()
        except (OSError, json.JSONDecodeError, TypeError) as error:
            raise CheckpointUnusable(f"run {self.run} left nothing to go on from in {self.directory}: {error}") from error
        if hashlib.sha256(content).hexdigest() != saved.sha256:
            raise CheckpointUnusable(f"the model {saved.path} is not what was written: its hash differs")
        try:
            return saved, load(content)
        except SafetensorError as error:
            raise CheckpointUnusable(f"the model {saved.path} cannot be read: {error}") from error


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step that survives a power cut."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
