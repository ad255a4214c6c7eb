"""The logs of many hosts as one: by time where all is there, as it comes where they are followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from edgefl.errors import NotProvisioned
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.client import MonitorClient
from edgefl.monitor.errors import Unavailable
from edgefl.monitor.logs import Hearing, LogLine, Wanted
from edgefl.operations import logs
from edgefl.operations.state import inventory_file
from edgefl.site import Site, load


def line(second: int, host: str) -> LogLine:
    return LogLine(datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), host, "monitor", "info", f"{host} at {second}")


async def source(*lines: LogLine) -> AsyncGenerator[LogLine, None]:
    for one in lines:
        yield one


async def endless(ended: asyncio.Event) -> AsyncGenerator[LogLine, None]:
    """One line, then silence until somebody ends it."""
    try:
        yield line(1, "a")
        await asyncio.Event().wait()
    finally:
        ended.set()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}, {name: edge-02}]\n")
    return load(tmp_path)


def provisioned(site: Site) -> Site:
    hosts = [Host(site.coordinator.name, "coordinator", "10.0.0.1", 22, "root")]
    hosts += [Host(device.name, "device", "10.0.0.2", 22, "root") for device in site.devices]
    Inventory(tuple(hosts)).save(inventory_file(site))
    return site


async def test_what_is_there_is_merged_by_time() -> None:
    merged = logs._gathered([source(line(1, "a"), line(4, "a")), source(line(2, "b"), line(3, "b"))])
    assert [(one.host, one.at.second) async for one in merged] == [("a", 1), ("b", 2), ("b", 3), ("a", 4)]


async def test_one_host_that_fails_ends_the_others() -> None:
    ended = asyncio.Event()

    async def broken() -> AsyncGenerator[LogLine, None]:
        raise Unavailable("the line is cut")
        yield line(1, "b")

    for merge in (logs._gathered, logs._followed):
        ended.clear()
        with pytest.raises(Unavailable, match="the line is cut"):
            _ = [one async for one in merge([endless(ended), broken()])]
        await asyncio.wait_for(ended.wait(), 60)


async def test_followed_lines_come_as_they_are_written_and_end_with_their_sources() -> None:
    written: asyncio.Queue[LogLine | None] = asyncio.Queue()

    async def live() -> AsyncGenerator[LogLine, None]:
        while (one := await written.get()) is not None:
            yield one

    followed = logs._followed([live(), source()])
    for second in (1, 2):
        written.put_nowait(line(second, "a"))
        assert await asyncio.wait_for(anext(followed), 60) == line(second, "a")
    written.put_nowait(None)
    assert [one async for one in followed] == []


async def test_a_reader_that_leaves_ends_every_source() -> None:
    ended = asyncio.Event()
    followed = logs._followed([endless(ended)])
    await anext(followed)
    await followed.aclose()
    await asyncio.wait_for(ended.wait(), 60)


def test_hosts_are_chosen_by_name_all_or_the_coordinator(site: Site) -> None:
    provisioned(site)
    assert [host.name for host in logs._hosts(site, [], everywhere=False)] == ["coordinator"]
    assert [host.name for host in logs._hosts(site, ["edge-02", "edge-01", "edge-02"], everywhere=False)] == [
        "edge-02",
        "edge-01",
    ]
    assert [host.name for host in logs._hosts(site, [], everywhere=True)] == ["coordinator", "edge-01", "edge-02"]


async def test_a_host_that_is_none_of_the_sites_is_named_before_anything_is_opened(site: Site) -> None:
    with pytest.raises(NotProvisioned, match="clinic has no hosts yet"):
        _ = [one async for one in logs.read(site, ["edge-09"], Wanted())]
    with pytest.raises(logs.NoSuchHost, match="'edge-09'") as refused:
        _ = [one async for one in logs.read(provisioned(site), ["edge-09"], Wanted())]
    assert "edge-01" in refused.value.hint


class Flaky:
    """A host's log over connections that break: what each of them gives, and what was asked for."""

    def __init__(self, *connections: list[LogLine]) -> None:
        self.asked: list[Wanted] = []
        self._connections = list(connections)

    async def read(self, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
        self.asked.append(wanted)
        if not self._connections:
            await asyncio.Event().wait()
        for one in self._connections.pop(0):
            yield one
        raise Unavailable("the line is cut", hint="edgefl doctor edge-01")


async def told(of: AsyncGenerator[LogLine | Hearing, None], count: int) -> list[LogLine | Hearing]:
    async with asyncio.timeout(60), aclosing(of):
        return [await anext(of) for _ in range(count)]


async def test_a_host_that_is_lost_is_said_and_read_on_from_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FIRST_PAUSE_S", 0.01)
    twin = replace(line(2, "a"), message="in the same moment")
    host = Flaky([line(1, "a"), line(2, "a")], [], [line(2, "a"), twin, line(3, "a")])
    lost = Hearing("a", "the line is cut", "edgefl doctor edge-01")
    said = await told(logs._kept(host.read, "a", Wanted(follow=True)), 8)
    assert said == [line(1, "a"), line(2, "a"), lost, lost, Hearing("a"), twin, line(3, "a"), lost]
    assert [wanted.since for wanted in host.asked] == [None, line(2, "a").at, line(2, "a").at]


async def test_one_host_that_cannot_be_read_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FIRST_PAUSE_S", 0.01)
    broken = Flaky(*[[]] * 50)
    ended = asyncio.Event()
    sources = [logs._kept(broken.read, "b", Wanted()), logs._kept(lambda _: endless(ended), "a", Wanted())]
    said = await told(logs._followed(sources), 4)
    assert line(1, "a") in said
    assert [each for each in said if isinstance(each, Hearing)][:2] == [
        Hearing("b", "the line is cut", "edgefl doctor edge-01")
    ] * 2
    assert ended.is_set(), "and whoever leaves ends them all"


async def test_a_sites_logs_are_of_its_hosts_and_only_of_those(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    of_site = logs.SiteLogs(site, cast("MonitorClient", None))
    with pytest.raises(NotProvisioned, match="clinic has no hosts yet"):
        await of_site.hosts()
    provisioned(site)
    assert await of_site.hosts() == ["coordinator", "edge-01", "edge-02"]
    with pytest.raises(logs.NoSuchHost):
        await anext(of_site.follow(["edge-09"]))

    async def of(host: Host, _: MonitorClient, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
        yield line(wanted.lines, host.name)
        await asyncio.Event().wait()

    monkeypatch.setattr(logs, "_of", of)
    said = await told(of_site.follow(["edge-02", "coordinator"], wanted=Wanted(lines=7)), 2)
    assert {each.host for each in said} == {"edge-02", "coordinator"}
