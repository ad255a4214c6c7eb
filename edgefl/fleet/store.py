"""Directories of fetched files that appear whole or not at all, shared by every site of a machine.

A directory is filled as `<place>.partial` (what is there already is kept, so a fetch that was stopped goes on), then sealed: a
record of each file's SHA-256, size and time is written into it, and it is renamed. A file that was touched since is noticed
without reading it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a sealed directory; `size` in bytes, `mtime_ns` as it was when it was hashed."""

    name: str
    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A sealed directory and what is in it, by name."""

    path: Path
    files: tuple[StoredFile, ...]

    @property
    def digest(self) -> str:
        """One hash over every file's name and content: equal exactly when the directories are."""
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def read(place: Path) -> Stored | None:
    """The sealed directory at `place`; None when there is none, or a file is missing or was touched after sealing."""
    try:
        record = json.loads((place / RECORD).read_text())
        files = tuple(StoredFile(**entry) for entry in record)
        untouched = all(_is_untouched(place / file.name, file) for file in files)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    return Stored(place, files) if untouched else None


def begin(place: Path) -> Path:
    """The directory to fill. A sealed directory that is no longer whole is taken back as the start, without its touched files."""
    partial = place.with_name(f"{place.name}.partial")
    if place.exists() and not partial.exists():
        _discard_touched(place)
        place.rename(partial)
    elif place.exists():
        shutil.rmtree(place)
    partial.mkdir(parents=True, exist_ok=True)
    return partial


def seal(partial: Path, place: Path) -> Stored:
    """Record what `partial` holds and make it appear as `place`."""
    files = tuple(_stored(path) for path in sorted(partial.iterdir()) if path.name != RECORD)
    record = partial / RECORD
    with record.open("w") as stream:
        json.dump([asdict(file) for file in files], stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(place)
    return Stored(place, files)


@asynccontextmanager
async def locked(place: Path) -> AsyncIterator[None]:
    """Hold `place` against every other process of this machine; the wait can be cancelled."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.1)  # flock has no waitable form that a cancellation could end
        yield


def link(source: Path, target: Path) -> None:
    """Put `source` at `target` without copying where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stored(path: Path) -> StoredFile:
    status = path.stat()
    return StoredFile(path.name, sha256_of(path), status.st_size, status.st_mtime_ns)


def _is_untouched(path: Path, file: StoredFile) -> bool:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)


def _discard_touched(place: Path) -> None:
    """Remove what no longer hashes to what the record says; without a record, everything."""
    try:
        known = {entry["name"]: entry["sha256"] for entry in json.loads((place / RECORD).read_text())}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        known = {}
    for path in place.iterdir():
        if known.get(path.name) != sha256_of(path):
            path.unlink()
