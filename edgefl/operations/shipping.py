"""The logs of a site's hosts, in files that Filebeat, Grafana Alloy or any other shipper reads.

It runs where the operator is: devices open no way for it, and no shipper runs on them.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgefl.errors import EdgeflError, Locked
from edgefl.monitor import ecs
from edgefl.monitor.logs import Hearing, LogLine, Wanted
from edgefl.operations.logs import SiteLogs
from edgefl.operations.watch import lasting
from edgefl.progress import Progress, Started, Step, Warned
from edgefl.site.model import Site

STAGE = "logs"
_NAME = "edgefl.ndjson"
_PARTS = 4
"""Files that it is in: with one that is full the oldest goes."""
_OWN = "edgefl-logs"
"""Whose lines those are that say that a host cannot be read."""


class NotWritable(EdgeflError):
    """The files cannot be written."""


@dataclass(slots=True)
class Mark:
    """Where a host's lines end in the files: the time of the last, and the `event.id` of every one of that time."""

    at: datetime
    ids: set[str] = field(default_factory=set)


class Files:
    """NDJSON in a directory that one process writes to: `edgefl.ndjson`, and those before it under the time when each was full.

    marks: by host, what is in them already.
    """

    def __init__(self, directory: Path, keep_mb: int) -> None:
        self._directory = directory
        self._current = directory / _NAME
        self._most = keep_mb * (1 << 20) // _PARTS
        self._file: int | None = None
        self.marks: dict[str, Mark] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Write from where the last process ended. Raises Locked while another one does, NotWritable."""
        lock = None
        try:
            with self._told():
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o750)
                lock = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    hint = "end it, or name another directory"
                    raise Locked(f"another process writes logs to {self._directory}", hint=hint) from None
                self._open()
                for path in sorted(self._full()):
                    self._read(path)
                self._read(self._current)
            yield
        finally:
            for descriptor in (self._file, lock):
                if descriptor is not None:
                    os.close(descriptor)

    def write(self, document: Mapping[str, Any]) -> bool:
        """Append a document; False where it is in the files already. Raises NotWritable."""
        host, _, identity = _place(document)
        if host in self.marks and identity in self.marks[host].ids:
            return False
        with self._told():
            self._append((ecs.dumped(document) + "\n").encode(errors="replace"))
        self._note(document)
        return True

    def _append(self, line: bytes) -> None:
        if self._size() + len(line) > self._most:
            self._turn()
        ends = self._size()
        if os.write(self._descriptor(), line) != len(line):  # as much as the disk had room for
            os.ftruncate(self._descriptor(), ends)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._current))

    def _size(self) -> int:
        return os.fstat(self._descriptor()).st_size

    def _descriptor(self) -> int:
        assert self._file is not None, "written outside of `held`"  # noqa: S101
        return self._file

    def _full(self) -> list[Path]:
        return [path for path in self._directory.glob("edgefl-*.ndjson") if path.is_file()]

    def _open(self) -> None:
        self._file = os.open(self._current, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        whole = self._current.read_bytes()
        os.ftruncate(self._file, whole.rfind(b"\n") + 1)  # a line that its writer did not live to end

    def _turn(self) -> None:
        """Begin another file; shippers follow a renamed one to its end."""
        self._current.rename(self._directory / f"edgefl-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.ndjson")
        if self._file is not None:
            os.close(self._file)
        self._open()
        for path in sorted(self._full())[: 1 - _PARTS]:
            path.unlink()

    def _read(self, path: Path) -> None:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):  # what somebody else wrote there says nothing of a host
                    self._note(json.loads(line))

    def _note(self, document: Mapping[str, Any]) -> None:
        if document["service"]["name"] == _OWN:
            return
        host, at, identity = _place(document)
        mark = self.marks.get(host)
        if mark is None or at > mark.at:
            mark = self.marks[host] = Mark(at)
        if at == mark.at:
            mark.ids.add(identity)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{error.filename or self._current} cannot be written: {error.strerror}"
            raise NotWritable(what, hint="the same command goes on once it can") from error


async def ship(
    site: Site, names: Sequence[str], wanted: Wanted, directory: Path, *, keep_mb: int, everywhere: bool = False
) -> AsyncIterator[Progress]:
    """Write the hosts' lines as ECS to `directory`, for ever: what is written there already is gone on from.

    keep_mb: what the files may take together, in MiB. Raises NoSuchHost, NotProvisioned, Locked, NotWritable.
    """
    files = Files(directory, keep_mb)
    with files.held():
        async with lasting(site) as monitor:
            logs = SiteLogs(site, monitor)
            hosts = await logs.hosts() if everywhere else [*names] or (await logs.hosts())[:1]
            yield Started(STAGE, "", f"{len(hosts)} hosts' lines go to {directory}", total=len(hosts))
            since = {host: mark.at for host, mark in files.marks.items()}
            heard: dict[str, bool] = {}
            async with aclosing(logs.follow(hosts, wanted=wanted, since=since)) as told:
                async for each in told:
                    is_heard = isinstance(each, LogLine)
                    is_news = heard.get(each.host) is not is_heard
                    if isinstance(each, Hearing) and not (each.problem and is_news):
                        continue  # it is asked again and again, and its next line says that it is read
                    await asyncio.to_thread(files.write, ecs.document(_line(each), site.name))
                    heard[each.host] = is_heard
                    if isinstance(each, Hearing):
                        yield Warned(STAGE, each.host, each.problem, hint=each.hint)
                    elif is_news:
                        yield Step(STAGE, each.host, "is read", changed=True)


def _line(each: LogLine | Hearing) -> LogLine:
    if isinstance(each, LogLine):
        return each
    return LogLine(datetime.now(UTC), each.host, _OWN, "warning", f"the log of {each.host} is not read: {each.problem}")


def _place(document: Mapping[str, Any]) -> tuple[str, datetime, str]:
    return document["host"]["name"], datetime.fromisoformat(document["@timestamp"]), document["event"]["id"]
