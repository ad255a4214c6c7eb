"""The past by pages, from an archive that keeps its events in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

import pytest

from edgefl.console import pager
from edgefl.console.pager import Pager
from edgefl.events import chain
from edgefl.events.chain import Head, Walked
from edgefl.events.schema import Event
from edgefl.monitor.errors import MonitorUnreachable
from edgefl.monitor.past import Past


class Shelf:
    """An archive of these events; away: whether it answers. `hold` lets a walk go on."""

    def __init__(self, events: Iterable[Event], most: int = 200) -> None:
        self.events = list(events)
        self.most = most
        self.asked: list[int] = []
        self.away = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.walks = 0

    async def past(self, kinds: Sequence[str], *, before: int = 0, most: int = 200) -> Past:
        self.asked.append(before)
        if self.away:
            raise MonitorUnreachable("the monitor does not answer")
        found = [event for event in reversed(self.events) if event.body.type in kinds and event.seq < before]
        page, rest = found[: self.most], found[self.most :]
        return Past(tuple(page), (), page[-1].seq if rest else 0)

    async def walk(self, seen: Mapping[int, str] | None = None) -> AsyncGenerator[Walked, None]:
        head, last = Head(), self.events[-1].seq
        self.walks += 1
        try:
            for event in self.events:
                head = chain.extend(head, event.model_dump(mode="json"))
                chain.recognise(head, seen or {})
                if event.seq in {100, last}:
                    yield Walked(1, head, last)
                    await self.hold.wait()
        finally:
            self.walks -= 1


async def fetched(paged: Pager) -> int:
    """All of it; in how many pages."""
    pages = 0
    async with asyncio.timeout(60):
        while not paged.is_all:
            await paged.fetch()
            pages += 1
    return pages


def audited(events: Iterable[Event]) -> list[int]:
    return [event.seq for event in events if event.body.type in pager.KINDS]


async def test_pages_join_without_gap_or_duplicate(events: list[Event]) -> None:
    shelf = Shelf(events, most=10)
    paged = Pager(shelf, lambda: None)
    paged.begin(900)
    assert await fetched(paged) == 3
    assert [event.seq for event in paged.held] == [seq for seq in reversed(audited(events)) if seq <= 900]


async def test_no_more_is_fetched_than_is_wanted_and_held(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf([event.model_copy(update={"body": events[1].body, "seq": seq}) for seq, event in enumerate(events, 1)])
    paged = Pager(shelf, lambda: None)
    paged.begin(len(events))
    await paged.fetch()
    assert len(paged.held) == 200
    monkeypatch.setattr(pager, "MOST_EVENTS", 400)
    for _ in range(3):
        await paged.fetch()
    assert len(paged.held) == 400
    assert paged.is_full
    assert not paged.is_all


async def test_a_monitor_that_is_away_is_asked_again(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager, "RETRY_S", 0.01)
    shelf = Shelf(events)
    shelf.away = True
    paged = Pager(shelf, lambda: None)
    paged.begin(900)
    await paged.fetch()
    assert paged.problem == "the monitor does not answer"
    shelf.away = False
    await fetched(paged)
    assert paged.problem == ""


async def test_a_page_that_was_asked_for_before_the_feed_began_anew_is_dropped(events: list[Event]) -> None:
    shelf = Shelf(events)
    paged = Pager(shelf, lambda: None)
    paged.begin(10)

    class Slow(Shelf):
        async def past(self, kinds: Sequence[str], *, before: int = 0, most: int = 200) -> Past:
            if before == 11:
                paged.begin(900)
            return await super().past(kinds, before=before, most=most)

    paged._archive = Slow(events)
    await fetched(paged)
    assert [event.seq for event in paged.held] == [seq for seq in reversed(audited(events)) if seq <= 900]


async def test_what_the_feed_tells_from_the_beginning_needs_no_past(events: list[Event]) -> None:
    shelf = Shelf(events)
    paged = Pager(shelf, lambda: None)
    paged.begin(0)
    await paged.fetch()
    assert paged.is_all
    assert shelf.asked == []
