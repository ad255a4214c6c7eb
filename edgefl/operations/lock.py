"""One operation at a time changes a site."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from edgefl.errors import Locked
from edgefl.site.model import Site

_POLL_S = 0.2


class SiteLock:
    """A site that is held."""

    def __init__(self, descriptor: int, operation: str) -> None:
        self._descriptor, self._operation = descriptor, operation

    @asynccontextmanager
    async def loosened(self) -> AsyncIterator[None]:
        """Let what is urgent come between while the block only waits; then the site is held as before, once that is done."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        yield
        while True:
            if _taken(self._descriptor, self._operation):
                return
            await asyncio.sleep(_POLL_S)


@contextmanager
def site_lock(site: Site, operation: str, *, urgent: bool = False) -> Iterator[SiteLock]:
    """Hold the site while the block runs; Locked names who holds it otherwise.

    urgent: whether it may come between what only waits, such as an upgrade for the end of a run.
    The kernel drops the lock when its holder dies, so nothing is ever left locked.
    """
    site.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _held(site, site.state / "lock", operation) as descriptor:
        if urgent:
            yield SiteLock(descriptor, operation)
            return
        with _held(site, site.state / "lock.waiting", operation):
            yield SiteLock(descriptor, operation)


@contextmanager
def _held(site: Site, path: Path, operation: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _taken(descriptor, operation):
            raise Locked(f"{_holder(descriptor)} is at work on {site.name}", hint="wait for it, or stop it with Ctrl-C")
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int, operation: str) -> bool:
    """Whether it could be locked; if so, it says by whom."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    holder = {"operation": operation, "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)
    return True


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return "another operation"
    return f"`edgefl {holder['operation']}` (process {holder['pid']}, since {holder['since']})"
