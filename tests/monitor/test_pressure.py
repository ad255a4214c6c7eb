"""More than the monitor takes at once: nobody waits in silence, nothing taken is lost, and whoever comes again is heard."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing
from itertools import cycle

import httpx
import pytest

from edgefl.events.schema import DeviceState
from edgefl.monitor.client import MonitorClient
from edgefl.monitor.errors import Refused
from edgefl.monitor.line import read_line
from edgefl.monitor.pressure import MOST_BYTES, MOST_OPEN
from edgefl.monitor.state import FederationState
from edgefl.monitor.stream import Streams
from edgefl.monitor.tail import Tail
from tests.monitor.conftest import wait_for

pytestmark = pytest.mark.slow

OPERATOR = {"X-Edgefl-Name": "alice@desk", "X-Edgefl-Role": "operator"}
WRITERS, READERS = MOST_OPEN["/v1/actions"], MOST_OPEN["/v1/events"]


@pytest.fixture
async def asked(service, journal):
    transport = httpx.AsyncHTTPTransport(uds=str(service.socket), limits=httpx.Limits(max_connections=500))
    async with httpx.AsyncClient(transport=transport, base_url="http://monitor", headers=OPERATOR, timeout=20) as asked:
        yield asked


def said(number: int) -> dict[str, str]:
    return {"type": "device_state", "device": f"edge-{number:04}", "state": "online"}


async def test_writers_beyond_the_bound_are_told_at_once_and_what_was_taken_stands_once(asked, journal):
    before = journal.head().seq
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # as a ServerApp that writes a whole round: appends wait for it
        asking = {asyncio.create_task(asked.post("/v1/actions", json=said(number))) for number in range(WRITERS + 20)}
        refused: set[asyncio.Task[httpx.Response]] = set()
        async with asyncio.timeout(8):  # sooner than an append gives up
            while len(refused) < 20:
                refused |= (await asyncio.wait(asking - refused, return_when=asyncio.FIRST_COMPLETED))[0]
        other.execute("ROLLBACK")
        taken = await asyncio.gather(*(asking - refused))
    answers = [task.result() for task in refused]
    assert {(answer.status_code, answer.headers["Retry-After"]) for answer in answers} == {(429, "1")}
    assert answers[0].json()["what"] == f"{WRITERS} requests to /v1/actions are open already"
    assert [answer.status_code for answer in taken] == [201] * WRITERS
    written = Counter(event.seq for event in journal.events(before))
    assert written == Counter(answer.json()["last"] for answer in taken)


async def test_a_client_that_is_told_to_come_again_does_and_every_event_stands_once(gate, state_dir, inventory, journal):
    before = journal.head().seq
    names = [f"edge-{number:04}" for number in range(2 * WRITERS)]
    async with AsyncExitStack() as opened:
        # Each has ten connections.
        monitors = [await opened.enter_async_context(MonitorClient.open(state_dir, inventory)) for _ in range(WRITERS // 10 + 2)]
        await asyncio.gather(*(monitor.status(updates=False) for monitor in monitors for _ in range(10)))  # their handshakes
        for monitor in monitors:
            monitor.heard = None
        with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asking = [
                asyncio.create_task(monitor.append(DeviceState(device=name, state="online")))
                for name, monitor in zip(names, cycle(monitors), strict=False)
            ]
            heard = "an answer, while nothing can be written"
            await asyncio.to_thread(wait_for, lambda: any(monitor.heard for monitor in monitors), heard, 8)
            assert not any(task.done() for task in asking), "and whoever got it asks again"
            other.execute("ROLLBACK")
        await asyncio.gather(*asking)
    assert sorted(event.body.device for event in journal.events(before)) == names


async def test_readers_beyond_the_bound_are_told_and_one_that_leaves_makes_room(asked):
    async with AsyncExitStack() as reading:

        async def reader() -> httpx.Response:
            return await reading.enter_async_context(asked.stream("GET", "/v1/events", params={"follow": True}))

        readers = [await reader() for _ in range(READERS)]
        assert {answer.status_code for answer in readers} == {200}
        one_more = await reader()
        assert (one_more.status_code, one_more.headers["Retry-After"]) == (429, "1")
        await readers[0].aclose()
        async with asyncio.timeout(60):
            while (again := await reader()).status_code != 200:  # it learns of the reader's end a moment later
                await again.aclose()
                await asyncio.sleep(0.02)


async def unmeasured():
    yield b"["
    yield b" " * 100


@pytest.mark.parametrize("content", [lambda: b" " * (MOST_BYTES + 1), unmeasured])
async def test_what_is_too_large_is_refused_before_it_is_read(asked, content):
    answer = await asked.post("/v1/actions", content=content())
    assert answer.status_code == 413
    assert Refused.read(answer.json()).hint == "say it in parts"


async def test_readers_at_the_same_place_share_a_page_and_each_gets_every_event(journal, monkeypatch):
    state = FederationState.enrolled("clinic", ["edge-01"], epsilon_limit=None, site_hash="")
    tail = Tail(journal, state)
    await tail.catch_up()
    streams, after = Streams(tail), journal.head().seq
    reads: list[int] = []
    page = journal.page
    monkeypatch.setattr(journal, "page", lambda seq: reads.append(seq) or page(seq))

    async def read() -> list[int]:
        seen: list[int] = []
        async for part in streams.lines(after, follow=True):
            seen += [record["seq"] for line in part.splitlines() if (record := read_line(line.decode())) is not None]
            if len(seen) == 20:
                return seen
        return seen

    readers = [asyncio.create_task(read()) for _ in range(50)]
    for _ in range(20):
        event = journal.append(DeviceState(device="edge-01", state="online"))
        await tail.catch_up()
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await asyncio.gather(*readers) == [list(range(after + 1, event.seq + 1))] * 50
    assert len(reads) < 50 * 5, "one read serves many"
