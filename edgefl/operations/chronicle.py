"""The audit log: what the journal does not have yet is told, what the operator's copy does not have yet is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events import chain, replay
from edgefl.events.chain import Head
from edgefl.events.copy import read
from edgefl.events.schema import Event
from edgefl.operations.deeds import tell
from edgefl.operations.remember import copy_of, remember
from edgefl.operations.stage import chained
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site.model import Site

STAGE = "journal"


class NoSuchFile(EdgeflError):
    """There is no audit log in that place."""

    exit_code = ExitCode.USAGE


async def chronicle(site: Site, *, whole: bool = False) -> AsyncIterator[Progress]:
    """Bring the operator's copy of the journal up to date.

    whole: read all of the coordinator's journal once more, and check that every event of the copy is in it as it was.
    Raises HistoryRewritten, JournalBroken, MonitorUnreachable.
    """
    async for event in chained(tell(site)):
        yield event
    began = time.monotonic()
    yield Started(STAGE, "", "read what is new")
    async with watching(site) as monitor:
        head = await remember(site, monitor)
        if whole:
            seen = await asyncio.to_thread(copy_of(site).hashes)
            async with aclosing(monitor.walk(seen)) as walk:
                async for walked in walk:
                    yield Step(STAGE, "coordinator", f"{walked.head.seq} of {walked.last} hold")
    what = f"event {head.seq} is the last" + (", and the coordinator's journal is the same from the first on" if whole else "")
    yield Finished(STAGE, "", what, seconds=time.monotonic() - began, detail={"seq": head.seq, "hash": head.hash})


def entries(path: Path) -> Iterator[Event]:
    """The events of a file: a copy of the journal, or a recording (`edgefl rounds --record`). Each is verified first.

    Raises NoSuchFile, JournalBroken with the first seq that does not verify, RecordingInvalid.
    """
    try:
        with path.open("rb") as file:
            recorded = b'"edgefl-journal"' in file.readline()
    except OSError as error:
        raise NoSuchFile(f"{path} cannot be read: {error.strerror}", hint="edgefl audit log makes .edgefl/journal") from error
    return replay.replay(path) if recorded else (event for _, event in read(path))


def recognised(events: Iterator[Event], seen: Mapping[int, str], *, source: str) -> Iterator[Event]:
    """The events, if those that were noted elsewhere are among them as they were. seen: hashes by seq. Raises JournalBroken."""
    head = Head()
    for event in events:
        head = Head(event.seq, event.hash)
        chain.recognise(head, seen, source=source)
        yield event
    chain.recognise_end(head, seen, source=source)
