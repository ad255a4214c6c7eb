"""The journal as an endless NDJSON stream: one event a line, and a heartbeat when there is nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from edgefl.events import chain
from edgefl.monitor.errors import AheadOfJournal
from edgefl.monitor.line import HEARTBEAT_S, heartbeat
from edgefl.monitor.tail import Tail


class Attended(StreamingResponse):
    """A stream that ends as soon as whoever asked for it is gone, also where there is nothing to say for hours.

    From version 2.4 of ASGI on, Starlette leaves it to the next part that cannot be sent to find that out.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and listen."""
        await super().__call__({**scope, "asgi": {**scope["asgi"], "spec_version": "2.3"}}, receive, send)


class Streams:
    """Serves readers at their own pace: each holds one page at a time, so a slow one costs neither memory nor others' time.

    Those who are at the same place share a page, as those who follow do: to read it for each of them anew is what a monitor with
    many consoles would mostly do.
    """

    def __init__(self, tail: Tail, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._tail = tail
        self._heartbeat_s = heartbeat_s
        self._closing = False
        self._shared: tuple[int, asyncio.Task[tuple[int, bytes]]] | None = None

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
            last, page = await self._page(after)
            if not page and not follow:  # a shared one may have been begun before what the reader wrote itself
                last, page = await asyncio.to_thread(self._read, after)
            if page:
                after = last
                yield page
            elif not follow or self._closing:  # it may have been closed while the page was read
                return
            elif not await self._tail.news(after, within_s=self._heartbeat_s):
                yield self._heartbeat()

    async def _page(self, after: int) -> tuple[int, bytes]:
        """What follows `after`, and the seq that it ends with. A page stays right: the journal only grows."""
        if self._shared is None or self._shared[0] != after or _is_over(self._shared[1]):
            self._shared = after, asyncio.create_task(asyncio.to_thread(self._read, after))
        return await asyncio.shield(self._shared[1])  # whoever leaves takes it from nobody

    def _read(self, after: int) -> tuple[int, bytes]:
        page = self._tail.journal.page(after)
        last = int(page[-1]["seq"]) if page else after
        return last, "".join(chain.canonical(record) + "\n" for record in page).encode()

    def _heartbeat(self) -> bytes:
        return heartbeat(self._tail.state.seq, datetime.now(UTC)).encode()


def _is_over(reading: asyncio.Task[tuple[int, bytes]]) -> bool:
    """Whether a page is of no use to others: it failed, or had nothing yet."""
    return reading.done() and (reading.cancelled() or reading.exception() is not None or not reading.result()[1])
