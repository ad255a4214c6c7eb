"""File locks that hold between threads and processes, and survive the removal of the file they stand on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock on `path` while the body runs; waits for as long as others hold it.

    Shared holders exclude exclusive ones only. The kernel drops the lock when the holder dies, so none is ever stale. An
    exclusive holder removes the file, and its directory when that is empty, before it lets go: locks leave nothing behind.
    """
    descriptor = _acquire(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        if not shared:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # other files are in it
                path.parent.rmdir()
        os.close(descriptor)


def _acquire(path: Path, kind: int) -> int:
    """A descriptor that holds the lock on the file that `path` names now, not on one that was removed meanwhile."""
    while True:
        descriptor = _opened(path)
        fcntl.flock(descriptor, kind)
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)


def _opened(path: Path) -> int:
    """A descriptor of the file at `path`, made with its directories where they are missing.

    Another holder may remove the directory at any step. `os.makedirs` then fails as if something else stood in its place, so a
    real obstacle is told from a vanished directory by looking again.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        except FileExistsError:
            with suppress(FileNotFoundError):  # one look: between two the directory may vanish once more
                if not S_ISDIR(path.parent.stat().st_mode):
                    raise
