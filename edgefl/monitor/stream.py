"""The journal as an endless NDJSON stream: one event a line, and a heartbeat when there is nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from edgefl.events import chain
from edgefl.monitor.errors import AheadOfJournal, Unavailable
from edgefl.monitor.line import HEARTBEAT_S, heartbeat
from edgefl.monitor.tail import Tail

MOST_READERS = 64


class Streams:
    """Serves readers at their own pace: each holds one page at a time, so a slow one costs neither memory nor others' time."""

    def __init__(self, tail: Tail, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._tail = tail
        self._heartbeat_s = heartbeat_s
        self._readers = 0
        self._closing = False

    def close(self) -> None:
        """End every stream now, so that none holds up the service's end."""
        self._closing = True
        self._tail.wake()

    def check(self, after: int) -> None:
        """Raises AheadOfJournal or Unavailable when the stream cannot be given."""
        if after > self._tail.state.seq:
            raise AheadOfJournal(
                f"the journal ends at {self._tail.state.seq}, before the {after} that was asked for",
                hint="the coordinator's journal was replaced: begin again at 0",
            )
        if self._readers >= MOST_READERS:
            raise Unavailable(f"{self._readers} readers follow already", hint="close a console")

    async def lines(self, after: int, *, follow: bool) -> AsyncIterator[bytes]:
        """Events after `after` as NDJSON, page by page; with `follow` for ever, with heartbeats."""
        with self._counted():
            yield self._heartbeat()
            while not self._closing:
                page = await asyncio.to_thread(self._tail.journal.page, after)
                if page:
                    after = page[-1]["seq"]
                    yield "".join(chain.canonical(record) + "\n" for record in page).encode()
                elif not follow or self._closing:  # it may have been closed while the page was read
                    return
                elif not await self._tail.news(after, within_s=self._heartbeat_s):
                    yield self._heartbeat()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    def _heartbeat(self) -> bytes:
        return heartbeat(self._tail.state.seq, datetime.now(UTC)).encode()
