"""What happened, told to services of the operator's own: derived from the journal alone, so that hosts carry nothing for it.

How far a service has been told lies beside this machine's copy of the journal, and ends with it. Cut off anywhere, the next call
goes on from there; what was told already is told again at most in the same words, by the same ids.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from edgefl.errors import EdgeflError, ExitCode, Locked
from edgefl.events.schema import Event
from edgefl.operations.remember import copy_of, remember
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Step, Warned
from edgefl.site.model import Site


class NotAsked(EdgeflError):
    """site.yaml does not say where to."""

    exit_code = ExitCode.USAGE


class BookmarkUnusable(EdgeflError):
    """How far a service has been told cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a service was told. is_settled: whether what follows can be told without what was before.

    lacks: what the service would not take of it, in its own words.
    """

    subject: str
    what: str
    is_settled: bool
    lacks: str = ""


class Receiver(Protocol):
    """A service that is told."""

    @property
    def kind(self) -> str:
        """What is exported."""

    @property
    def to(self) -> str:
        """Where to, and into which part of it."""

    async def take(self, event: Event, *, is_new: bool) -> Told | None:
        """Tell it what follows from an event; None where nothing does. is_new: False for what it was told of before."""


async def export(site: Site, receiver: Receiver, *, follow: bool = False) -> AsyncIterator[Progress]:
    """Tell a service what it does not know yet; with `follow`, also what happens from now on, without end.

    Raises NotDelivered, Locked (another export to it is at work), HistoryRewritten, MonitorUnreachable.
    """
    began, many = time.monotonic(), 0
    async with watching(site) as monitor:
        await remember(site, monitor)
        with _held(site, receiver) as bookmark:
            known = seq = bookmark.told
            yield Started(receiver.kind, "", f"{receiver.to}, from event {known + 1} on")
            # The event that settled what was before comes again: the next round began where that one ended.
            events = cast("AsyncGenerator[Event, None]", monitor.events(max(0, bookmark.settled - 1), follow=follow))
            async with aclosing(events):
                async for event in events:
                    seq = event.seq
                    told = await receiver.take(event, is_new=seq > known)
                    if told is None:
                        continue
                    bookmark.keep(seq, is_settled=told.is_settled)
                    many += 1
                    if told.lacks:
                        yield Warned(receiver.kind, told.subject, told.lacks, hint="its own log says why")
                    yield Step(receiver.kind, told.subject, told.what, changed=True)
    detail = {"to": receiver.to, "exported": many, "seq": seq}
    what = f"{receiver.to} knows all up to event {seq}"
    yield Finished(receiver.kind, "", what, changed=many > 0, seconds=time.monotonic() - began, detail=detail)


@dataclass(slots=True)
class _Bookmark:
    path: Path
    to: str
    told: int = 0
    settled: int = 0

    def keep(self, seq: int, *, is_settled: bool) -> None:
        """Everything up to this event was told."""
        self.told, self.settled = seq, seq if is_settled else self.settled
        fresh = self.path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps({"to": self.to, "told": self.told, "settled": self.settled}) + "\n")
            fresh.replace(self.path)
        except OSError as error:
            raise BookmarkUnusable(f"{self.path} cannot be written: {error.strerror}", hint="check the free space") from error


@contextmanager
def _held(site: Site, receiver: Receiver) -> Iterator[_Bookmark]:
    """How far the service has been told; nothing yet where another one was. One process at a time."""
    directory = copy_of(site).directory / "exports"
    bookmark = _Bookmark(directory / f"{receiver.kind}.json", receiver.to)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / f"{receiver.kind}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BookmarkUnusable(f"{directory} cannot be written: {error.strerror}", hint="check its owner") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"{receiver.kind} of {site.name}: another export is at work"
            raise Locked(what, hint="wait for it, or stop it with Ctrl-C") from None
        _open(bookmark)
        yield bookmark
    finally:
        os.close(descriptor)


def _open(bookmark: _Bookmark) -> None:
    """Read up to which event this very service was told; what another one was told counts for nothing."""
    try:
        said = json.loads(bookmark.path.read_text())
        if said["to"] == bookmark.to:
            bookmark.told, bookmark.settled = int(said["told"]), int(said["settled"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BookmarkUnusable(
            f"{bookmark.path} cannot be read: {error}", hint=f"rm {bookmark.path}: all is told again"
        ) from error
