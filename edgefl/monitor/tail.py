"""The journal's end, followed: the state after the last event, verified on the way, and a wake-up for whoever waits for more."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from edgefl.errors import EdgeflError
from edgefl.events import chain
from edgefl.events.chain import Head, JournalBroken
from edgefl.events.journal import Journal
from edgefl.events.schema import Event
from edgefl.monitor.state import FederationState


class Tail:
    """Folds the journal as it grows. One task runs `follow`; any number wait in `news`.

    broken: the first place where the chain did not verify; kept until the service restarts, while following goes on.
    problem: why the journal could not be read just now; empty while it can.
    turned: monotonic time of the last look at the journal, in seconds.
    """

    def __init__(self, journal: Journal, state: FederationState, *, poll_s: float = 0.2) -> None:
        self.journal = journal
        self.state = state
        self.broken: JournalBroken | None = None
        self.problem = ""
        self.turned = time.monotonic()
        self._head = Head()
        self._poll_s = poll_s
        self._changed = asyncio.Event()
        self._taking = asyncio.Lock()

    async def follow(self) -> None:
        """Take in what is appended, for ever."""
        while True:
            try:
                await self.catch_up()
                self.problem = ""
            except EdgeflError as error:
                self.problem = error.what
            self.turned = time.monotonic()
            await asyncio.sleep(self._poll_s)

    async def catch_up(self) -> None:
        """Take in all there is now: what was appended before the call is in `state` after it."""
        async with self._taking:
            while page := await asyncio.to_thread(self.journal.page, self._head.seq):
                self.state = await asyncio.to_thread(self._fold, self.state, page)
                self.wake()

    def wake(self) -> None:
        """Let everyone who waits look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def news(self, after: int, *, within_s: float) -> bool:
        """Whether there is an event after `after`, waiting for it at most this long."""
        if self.state.seq > after:
            return True
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _fold(self, state: FederationState, page: list[dict[str, Any]]) -> FederationState:
        for record in page:
            try:
                self._head = chain.extend(self._head, record, source=str(self.journal.path))
                event = Event.model_validate(record)
            except JournalBroken as broken:
                self.broken = self.broken or broken
                self._head = Head(int(record["seq"]), str(record["hash"]))
                continue  # what cannot be trusted is not shown as a fact
            except ValueError:
                self.broken = self.broken or JournalBroken(int(record["seq"]), "not an event", source=str(self.journal.path))
                continue
            state = state.apply(event)
        return state
