"""The journal as an endless NDJSON stream: one event a line, and a heartbeat when there is nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from edgefl.events import chain
from edgefl.monitor.errors import AheadOfJournal
from edgefl.monitor.line import HEARTBEAT_S, heartbeat
from edgefl.monitor.tail import Tail


class Streams:
    """Serves readers at their own pace: each holds one page at a time, so a slow one costs neither memory nor others' time."""

    def __init__(self, tail: Tail, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._tail = tail
        self._heartbeat_s = heartbeat_s
        self._closing = False

    def close(self) -> None:
        """End every stream now, so that none holds up the service's end."""
        self._closing = True
        self._tail.wake()

    def check(self, after: int) -> None:
        """Raises AheadOfJournal when there is nothing to go on with."""
        if after > self._tail.state.seq:
            raise AheadOfJournal(
                f"the journal ends at {self._tail.state.seq}, before the {after} that was asked for",
                hint="the coordinator's journal was replaced: begin again at 0",
            )

    async def lines(self, after: int, *, follow: bool) -> AsyncIterator[bytes]:
        """Events after `after` as NDJSON, page by page; with `follow` for ever, with heartbeats."""
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

    def _heartbeat(self) -> bytes:
        return heartbeat(self._tail.state.seq, datetime.now(UTC)).encode()
