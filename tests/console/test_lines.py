"""The lines that the console holds, from hosts that keep theirs in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from edgefl.console import lines
from edgefl.console.lines import MOST_HOSTS, Lines
from edgefl.errors import EdgeflError, NotProvisioned
from edgefl.fleet.finding import Finding
from edgefl.monitor.logs import Hearing, Level, LogLine, Wanted

from .conftest import BEGAN


def line(second: float, host: str = "edge-01", message: str = "", level: Level = "info") -> LogLine:
    return LogLine(BEGAN + timedelta(seconds=second), host, "edgefl-supernode", level, message or f"{host} at {second}")


async def until(holds: Callable[[], object]) -> None:
    """Wait for what the lines should come to say."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 — what is waited for has no event of its own
            await asyncio.sleep(0.005)


class Hosts:
    """Hosts that say what is put into `said`; open: who reads them now."""

    def __init__(self, *names: str) -> None:
        self.names: Sequence[str] = names
        self.said: asyncio.Queue[LogLine | Hearing] = asyncio.Queue()
        self.open: list[tuple[str, ...]] = []
        self.asked: list[Wanted] = []
        self.services_of: dict[str, Sequence[Finding]] = {}

    async def hosts(self) -> Sequence[str]:
        if not self.names:
            raise NotProvisioned("clinic has no hosts yet", hint="edgefl up")
        return self.names

    async def services(self, name: str) -> Sequence[Finding]:
        if name not in self.services_of:
            raise EdgeflError(f"{name} does not answer on SSH: connection timed out")
        return self.services_of[name]

    async def follow(self, names: Sequence[str], *, wanted: Wanted) -> AsyncGenerator[LogLine | Hearing, None]:
        self.open.append(tuple(names))
        self.asked.append(wanted)
        try:
            while True:
                yield await self.said.get()
        finally:
            self.open.remove(tuple(names))


@asynccontextmanager
async def reading(hosts: Hosts, names: Sequence[str] = (), most: int = 5000) -> AsyncGenerator[Lines, None]:
    """Lines that are read from these hosts, and the wait for what they say."""
    read = Lines(hosts, lambda: None, most=most)
    following = asyncio.create_task(read.follow(names))
    try:
        yield read
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert hosts.open == [], "whoever leaves ends the reading"


async def test_lines_are_held_by_time_however_they_come() -> None:
    hosts = Hosts("coordinator", "edge-01")
    async with reading(hosts) as read:
        for each in (line(3), line(1, "coordinator"), line(2), line(1, "coordinator")):
            hosts.said.put_nowait(each)
        await until(lambda: read.arrived == 4)
        assert [entry.line.at.second for entry in read.held] == [1, 1, 2, 3]
        assert [entry.number for entry in read.held] == [2, 4, 3, 1], "of the same moment the first stays first"


async def test_memory_is_bounded_and_the_oldest_go() -> None:
    hosts = Hosts("coordinator")
    async with reading(hosts, most=100) as read:
        for second in range(1000):
            hosts.said.put_nowait(line(second))
        hosts.said.put_nowait(line(1, message="late"))
        await until(lambda: read.arrived == 1001)
        assert len(read.held) == 100
        assert read.held[0].line == line(900)


async def test_a_host_that_cannot_be_read_is_known_until_it_is_heard_again() -> None:
    hosts = Hosts("coordinator", "edge-01")
    async with reading(hosts) as read:
        hosts.said.put_nowait(Hearing("edge-01", "edge-01 does not answer on SSH", "edgefl doctor edge-01"))
        hosts.said.put_nowait(line(1, "coordinator"))
        await until(lambda: read.arrived == 1)
        assert list(read.lost) == ["edge-01"]
        hosts.said.put_nowait(Hearing("edge-01"))
        await until(lambda: not read.lost)


@pytest.mark.parametrize(
    ("devices", "names", "read_from", "left_out"),
    [
        (3, [], ["coordinator", "edge-00", "edge-01", "edge-02"], 0),
        (3, ["edge-02", "edge-00"], ["edge-00", "edge-02"], 0),
        (1000, [], ["coordinator"], 1000),
        (1000, [f"edge-{number:02d}" for number in range(40)], [f"edge-{number:02d}" for number in range(MOST_HOSTS)], 8),
    ],
)
async def test_a_large_fleet_is_not_read_all_at_once(devices: int, names: list[str], read_from: list[str], left_out: int) -> None:
    hosts = Hosts("coordinator", *(f"edge-{number:02d}" for number in range(devices)))
    async with reading(hosts, names) as read:
        await until(lambda: hosts.open)
        assert hosts.open == [tuple(read_from)]
        assert (read.hosts, read.left_out) == (tuple(read_from), left_out)


async def test_a_site_without_hosts_is_asked_again_until_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "RETRY_S", 0.01)
    hosts = Hosts()
    async with reading(hosts) as read:
        await until(lambda: read.problem)
        assert read.problem == "clinic has no hosts yet; next: edgefl up"
        hosts.names = ("coordinator",)
        await until(lambda: hosts.open)
        assert read.problem == ""


async def test_a_device_that_no_host_stands_for_is_named() -> None:
    async with reading(Hosts("coordinator"), ["edge-99"]) as read:
        await until(lambda: read.problem)
        assert "edge-99" in read.problem


async def test_from_a_moment_on_as_many_lines_are_asked_for_as_are_held() -> None:
    hosts = Hosts("coordinator")
    read = Lines(hosts, lambda: None, most=700)
    for since in (None, BEGAN):
        following = asyncio.create_task(read.follow([], since))
        await until(lambda: hosts.open)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert hosts.asked == [Wanted(follow=True), Wanted(follow=True, since=BEGAN, lines=700)]
