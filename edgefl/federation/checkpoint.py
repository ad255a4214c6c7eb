"""Global models on the coordinator's disk: every round's version, what it came from, and what a run needs to go on from it.

A version is whole when its record stands: the model and the optimiser's moments are on the disk before it, and one rename
makes it count; what a crash leaves without a record never was. In `<models>/<run>/`: `<round>.safetensors`, the model;
`<round>.moments`, what the server's optimiser remembers (of a run's newest version alone); `<round>.json`, the record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events.schema import AnyBody, ModelPrivacySpent, PrivacySpent, RoundFinished

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL, MOMENTS, RECORD, DRAFT = ".safetensors", ".moments", ".json", ".new"
WRITER = "writer.lock"
"""Held by the process that writes."""
PATIENCE_S, LOOK_S = 30.0, 0.1
"""How long to wait for another writer's end, and how often to look."""


class CheckpointUnusable(EdgeflError):
    """There is nothing to go on from, it is not what was written, or it cannot be written."""

    exit_code = ExitCode.RUN_FAILED


class Version(BaseModel):
    """The record of one round's global model; round 0 is the model that a run began with.

    training: the first of the runs that went on from one another; all of them are one training to the devices.
    parent: the version (`run/round`) that this one was trained from, with its hash; empty where the task made it.
    journal_seq, journal_hash: the journal's head when the record was written. said: what the journal says of the round, its
    result last. privacy: each device's latest copy of its ledger; released: the coordinator's, where it protects whole devices.
    The rest is the coordinator's memory after this round.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    run: str
    round: int
    training: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    sha256: str
    bytes: int
    site: str
    site_hash: str
    task: str
    rule: str
    optimiser: str = "none"
    parent: str = ""
    parent_sha256: str = ""
    journal_seq: int
    journal_hash: str
    said: list[AnyBody] = Field(default_factory=list)
    privacy: dict[str, PrivacySpent] = Field(default_factory=dict)
    released: ModelPrivacySpent | None = None
    plan: dict[str, Any] = Field(default_factory=dict)
    reputation: dict[str, dict[str, Any]] = Field(default_factory=dict)
    claimed: dict[str, int] = Field(default_factory=dict)
    turns: dict[str, int] = Field(default_factory=dict)
    steps: int = 0
    moments_sha256: str = ""

    @property
    def name(self) -> str:
        """`run/round`."""
        return f"{self.run}/{self.round}"

    @property
    def finished(self) -> RoundFinished | None:
        """The round's result; None for the model that a run began with."""
        last = self.said[-1] if self.said else None
        return last if isinstance(last, RoundFinished) else None

    @property
    def metrics(self) -> dict[str, float]:
        """What the devices measured of it; empty for a model that no round measured."""
        finished = self.finished
        if finished is None:
            return {}
        own = {"accuracy": finished.accuracy, "loss": finished.loss}
        return {**{name: value for name, value in own.items() if value is not None}, **finished.metrics}


@dataclass(frozen=True, slots=True)
class Staged:
    """A model that is on the disk and does not count yet. sha256: of the file, hex; bytes: of the model."""

    run: str
    round: int
    path: Path
    sha256: str
    bytes: int
    moments_sha256: str = ""


class Models:
    """Every version under `<models>`. One process writes (a run's ServerApp); any number read meanwhile."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[tuple[Path, int, int], Version] = {}

    @contextmanager
    def alone(self, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Be the one process that writes, until the block or the process ends: a ServerApp that Flower gave up and that is still
        at work would count a round that the run after it does again. Raises CheckpointUnusable.
        """
        end, path = time.monotonic() + patience_s, self.root / WRITER
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CheckpointUnusable(f"{path} cannot be opened: {error.strerror}", hint="edgefl up") from error
        try:
            while not _locked(descriptor):
                if time.monotonic() >= end:
                    raise CheckpointUnusable(
                        f"another run still writes to {self.root}", hint="edgefl stop, then edgefl run --resume"
                    )
                time.sleep(LOOK_S)  # flock has no time limit of its own
            yield
        finally:
            os.close(descriptor)

    def path(self, run: str, round_: int, suffix: str = MODEL) -> Path:
        """Where a version's file lies."""
        return self.root / run / f"{round_}{suffix}"

    def versions(self) -> list[Version]:
        """Every whole version, oldest first. A record that cannot be read is left out: it proves nothing."""
        found = {}
        for path in self.root.glob(f"*/*{RECORD}"):
            with suppress(OSError, ValueError):
                stat = path.stat()  # a record never changes, and there are many: each is parsed once
                file = (path, stat.st_ino, stat.st_mtime_ns)
                version = self._known.get(file) or _unsealed(path.read_text())
                if self.path(version.run, version.round, RECORD) == path:
                    found[file] = version
        self._known = found
        return sorted(found.values(), key=lambda version: (version.journal_seq, version.round))

    def last(self, run: str) -> Version:
        """The newest version of the training that a run belongs to. Raises CheckpointUnusable."""
        versions = self.versions()
        trainings = {version.training for version in versions if run in {version.run, version.training}}
        of_it = [version for version in versions if version.training in trainings]
        if not of_it:
            raise CheckpointUnusable(f"run {run} left nothing to go on from in {self.root}", hint="edgefl models list")
        return of_it[-1]

    def find(self, name: str) -> Version:
        """The version `run/round`. Raises CheckpointUnusable."""
        run, _, round_ = name.partition("/")
        try:
            return _unsealed(self.path(str(int(run)), int(round_), RECORD).read_text())
        except (OSError, ValueError) as error:
            raise CheckpointUnusable(f"there is no model {name} in {self.root}: {error}", hint="edgefl models list") from error

    def content(self, version: Version) -> bytes:
        """The model's file, checked against its hash. Raises CheckpointUnusable."""
        return self._checked(self.path(version.run, version.round), version.sha256)

    def arrays(self, version: Version) -> dict[str, NDArray[Any]]:
        """The model. Raises CheckpointUnusable."""
        return _loaded(self.content(version), version.name)

    def moments(self, version: Version) -> dict[str, NDArray[Any]]:
        """What the optimiser remembered after this version; empty where it remembers nothing. Raises CheckpointUnusable."""
        if not version.moments_sha256:
            return {}
        path = self.path(version.run, version.round, MOMENTS)
        return _loaded(self._checked(path, version.moments_sha256), version.name)

    def size(self, version: Version) -> int:
        """Bytes that a version takes."""
        paths = (self.path(version.run, version.round, suffix) for suffix in (MODEL, MOMENTS, RECORD))
        return sum(path.stat().st_size for path in paths if path.exists())

    def stage(self, run: str, round_: int, arrays: Mapping[str, NDArray[Any]], moments: Mapping[str, NDArray[Any]]) -> Staged:
        """Put a model and its moments on the disk; they count when `commit` returns. Raises CheckpointUnusable."""
        model = _saved(arrays, {"run": run, "round": str(round_)})
        path = self.path(run, round_)
        write(path, model)
        remembered = b""
        if moments:
            remembered = _saved(moments, {"run": run, "round": str(round_)})
            write(path.with_suffix(MOMENTS), remembered)
        return Staged(run, round_, path, _hash(model), len(model), _hash(remembered) if moments else "")

    def commit(self, version: Version) -> None:
        """Make a staged version count: all of it or nothing. Raises CheckpointUnusable."""
        write(self.path(version.run, version.round, RECORD), _sealed(version))
        for path in (self.root / version.run).glob(f"*{MOMENTS}"):
            if path.name != f"{version.round}{MOMENTS}":  # nothing goes on from an earlier round any more
                path.unlink(missing_ok=True)

    def remove(self, version: Version) -> None:
        """Delete a version, its record first: no record stands without its model."""
        for suffix in (RECORD, MODEL, MOMENTS):
            self.path(version.run, version.round, suffix).unlink(missing_ok=True)
        with suppress(OSError):
            (self.root / version.run).rmdir()

    def sweep(self, versions: Iterable[Version]) -> None:
        """Delete what crashes left: drafts, and models without a record in the runs of these versions."""
        for draft in self.root.glob(f"*/*{DRAFT}"):
            draft.unlink(missing_ok=True)
        for run in {version.run for version in versions}:
            for path in (self.root / run).iterdir():
                if path.suffix in {MODEL, MOMENTS} and not path.with_suffix(RECORD).exists():
                    path.unlink(missing_ok=True)

    def _checked(self, path: Path, sha256: str) -> bytes:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointUnusable(f"{path} cannot be read: {error.strerror}", hint="edgefl models list") from error
        if _hash(content) != sha256:
            raise CheckpointUnusable(f"{path} is not what was written: its hash differs", hint="edgefl models list")
        return content


def _sealed(version: Version) -> bytes:
    """A record with its own hash, so that a damaged one is seen."""
    said = version.model_dump_json()
    return json.dumps({"sha256": _hash(said.encode()), "version": said}, indent=1).encode() + b"\n"


def _unsealed(text: str) -> Version:
    """What `_sealed` wrote; ValueError when it is something else."""
    sealed = json.loads(text)
    if not isinstance(sealed, dict) or _hash(str(sealed.get("version")).encode()) != sealed.get("sha256"):
        raise ValueError("its record is damaged")
    try:
        return Version.model_validate_json(sealed["version"])
    except ValidationError as error:
        raise ValueError(f"its record is none of this version's: {error.errors()[0]['msg']}") from error


def _saved(arrays: Mapping[str, NDArray[Any]], about: dict[str, str]) -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, about)


def _loaded(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except SafetensorError as error:
        raise CheckpointUnusable(f"the model {name} cannot be read: {error}") from error


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step that survives a power cut; its directory is made where it is missing.

    Raises CheckpointUnusable.
    """
    fresh = path.with_name(path.name + DRAFT)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _flush(path.parent.parent)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _flush(path.parent)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise CheckpointUnusable(
            f"{path} cannot be written: {error.strerror}", hint="edgefl run --resume, when there is room"
        ) from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
