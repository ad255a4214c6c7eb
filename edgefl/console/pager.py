"""The journal's past, fetched a page at a time as somebody goes down to it; never more than can be held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edgefl.console.archive import Archive
from edgefl.console.diary import KINDS, MOST_EVENTS
from edgefl.errors import EdgeflError
from edgefl.events.schema import Event

RETRY_S = 3.0


class Pager:
    """The audit's events up to a seq, the newest first.

    held: what was fetched. broken: seqs that do not match their own hash. is_all: whether nothing older is left. problem: why
    the last page did not come.
    """

    def __init__(self, archive: Archive, told: Callable[[], None]) -> None:
        self.held: list[Event] = []
        self.broken: list[int] = []
        self.is_all = False
        self.problem = ""
        self._archive = archive
        self._told = told
        self._since = -1
        self._before = 0

    @property
    def is_full(self) -> bool:
        """Whether no more is held, though there may be more."""
        return len(self.held) >= MOST_EVENTS

    def begin(self, since: int) -> None:
        """Everything after this seq is known otherwise; where that is another than before, what was fetched is forgotten."""
        if since != self._since:
            self._since, self._before = since, since + 1
            self.held, self.broken, self.is_all, self.problem = [], [], since == 0, ""

    async def fetch(self) -> None:
        """Fetch one page more. A monitor that does not answer may be asked again when this ends."""
        if self.is_all or self.is_full:
            return
        since = self._since
        try:
            page = await self._archive.past(KINDS, before=self._before)
        except EdgeflError as error:
            self.problem = error.what
            self._told()
            await asyncio.sleep(RETRY_S)
            return
        if since == self._since:
            self.held.extend(page.events)
            self.broken.extend(page.broken)
            self._before, self.is_all, self.problem = page.before, page.before == 0, ""
            self._told()
