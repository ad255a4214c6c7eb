"""One operation at a time changes a site."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from edgefl.errors import Locked
from edgefl.site.model import Site


@contextmanager
def site_lock(site: Site, operation: str) -> Iterator[None]:
    """Hold the site while the block runs; Locked names who holds it otherwise.

    The kernel drops the lock when its holder dies, so nothing is ever left locked.
    """
    site.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = site.state / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Locked(
                f"{_holder(descriptor)} is at work on {site.name}", hint="wait for it, or stop it with Ctrl-C"
            ) from error
        holder = {"operation": operation, "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return "another operation"
    return f"`edgefl {holder['operation']}` (process {holder['pid']}, since {holder['since']})"
