"""Logs in files for a shipper: bounded, gone on with after any end, each line once."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgefl.errors import Locked
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor import ecs
from edgefl.monitor.client import MonitorClient
from edgefl.monitor.errors import Unavailable
from edgefl.monitor.logs import LogLine, Wanted
from edgefl.operations import logs, shipping
from edgefl.operations.shipping import Files, NotWritable, ship
from edgefl.operations.state import inventory_file
from edgefl.progress import Warned
from edgefl.site import Site, load

BEGAN = datetime(2026, 3, 2, 9, tzinfo=UTC)


def line(number: int, host: str = "edge-01", message: str = "") -> LogLine:
    return LogLine(BEGAN + timedelta(seconds=number), host, "edgefl-monitor", "info", message or f"line {number}")


def document(number: int, host: str = "edge-01", message: str = "") -> dict[str, Any]:
    return ecs.document(line(number, host, message), "clinic")


def written(directory: Path) -> list[dict[str, Any]]:
    """Everything in the files, the oldest file first."""
    paths = [*sorted(directory.glob("edgefl-*.ndjson")), directory / "edgefl.ndjson"]
    return [json.loads(text) for path in paths for text in path.read_text().splitlines()]


def test_what_is_written_is_gone_on_from_and_nothing_stands_twice(tmp_path):
    files = Files(tmp_path, 8)
    with files.held():
        assert all(
            files.write(document(*each)) for each in [(1,), (2, "edge-01"), (2, "edge-01", "in the same moment"), (9, "edge-02")]
        )
    again = Files(tmp_path, 8)
    with again.held():
        assert {host: mark.at for host, mark in again.marks.items()} == {"edge-01": line(2).at, "edge-02": line(9).at}
        assert not again.write(document(2))
        assert not again.write(document(2, "edge-01", "in the same moment"))
        assert again.write(document(3))
    assert [said["message"] for said in written(tmp_path)] == ["line 1", "line 2", "in the same moment", "line 9", "line 3"]


def test_a_clock_that_was_put_back_loses_no_line(tmp_path):
    files = Files(tmp_path, 8)
    with files.held():
        assert files.write(document(3600))
        assert files.write(document(1))


def test_a_line_that_its_writer_did_not_live_to_end_is_taken_away(tmp_path):
    whole = ecs.dumped(document(1)) + "\n"
    (tmp_path / "edgefl.ndjson").write_text(whole + whole[:50])
    files = Files(tmp_path, 8)
    with files.held():
        files.write(document(2))
    assert [said["message"] for said in written(tmp_path)] == ["line 1", "line 2"]


def test_the_files_stay_within_their_bound_and_the_newest_lines_stay(tmp_path):
    files = Files(tmp_path, 4)
    with files.held():
        for number in range(1500):
            files.write(document(number, message="x" * 5000 + str(number)))
    sizes = [path.stat().st_size for path in tmp_path.glob("*.ndjson")]
    assert len(sizes) == 4
    assert sum(sizes) <= 4 << 20
    numbers = [int(said["message"].lstrip("x")) for said in written(tmp_path)]
    assert numbers == list(range(numbers[0], 1500)), "what is left has no gap"
    assert sum(sizes) > 3 << 20


def test_one_process_writes_to_a_directory(tmp_path):
    with Files(tmp_path, 8).held(), pytest.raises(Locked, match="another process writes logs"), Files(tmp_path, 8).held():
        pass


def test_what_is_in_the_way_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"), Files(tmp_path / "file", 8).held():
        pass


def test_a_full_disk_is_said_and_leaves_whole_lines(tmp_path, monkeypatch):
    files = Files(tmp_path, 8)
    real = os.write
    with files.held():
        files.write(document(1))
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:40]))  # as a file system writes what it has room for
        with pytest.raises(NotWritable, match=os.strerror(errno.ENOSPC)):
            files.write(document(2))
        monkeypatch.undo()
        assert files.write(document(2)), "and it was not taken for written"
    assert [said["message"] for said in written(tmp_path)] == ["line 1", "line 2"]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}, {name: edge-02}]\n")
    site = load(tmp_path)
    hosts = [Host("coordinator", "coordinator", "127.0.0.1", 22, "root")]
    hosts += [Host(device.name, "device", "127.0.0.1", 22, "root") for device in site.devices]
    Inventory(tuple(hosts)).save(inventory_file(site))
    return site


async def shipped(site: Site, into: Path, lines: int, asked: dict[str, Wanted], monkeypatch) -> list[object]:
    """What `ship` says until so many lines of each host are there; edge-02 cannot be read."""

    async def of(host: Host, _: MonitorClient, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
        asked[host.name] = wanted
        if host.name == "edge-02":
            raise Unavailable("the line is cut", hint="edgefl doctor edge-02")
        for number in range(lines):
            if wanted.since is None or line(number).at >= wanted.since:
                yield line(number, host.name)
        await asyncio.Event().wait()

    monkeypatch.setattr(logs, "_of", of)
    said: list[object] = []

    def is_there() -> bool:
        found = [one["host"]["name"] for one in written(into)] if (into / "edgefl.ndjson").exists() else []
        return (
            found.count("edge-01") >= lines and found.count("coordinator") >= lines and any(isinstance(s, Warned) for s in said)
        )

    async def take() -> None:
        async with aclosing(ship(site, [], Wanted(), into, keep_mb=8, everywhere=True)) as told:
            async for event in told:
                said.append(event)  # noqa: PERF401  # seen while it goes on

    task = asyncio.create_task(take())
    async with asyncio.timeout(60):
        while not is_there():
            assert not task.done(), task.exception()
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return said


async def test_every_hosts_lines_are_shipped_a_lost_host_is_named_and_the_next_process_goes_on(site, tmp_path, monkeypatch):
    into, asked = tmp_path / "ship", {}
    said = await shipped(site, into, 3, asked, monkeypatch)
    assert [event.subject for event in said if isinstance(event, Warned)] == ["edge-02"]
    assert asked["edge-01"].since is None
    await shipped(site, into, 5, asked, monkeypatch)
    assert asked["edge-01"].since == line(2).at
    for host in ("edge-01", "coordinator"):
        assert [one["message"] for one in written(into) if one["host"]["name"] == host] == [f"line {n}" for n in range(5)]
    lost = [one for one in written(into) if one["service"]["name"] == shipping._OWN]
    assert [(one["host"]["name"], one["log"]["level"]) for one in lost] == [("edge-02", "warning")] * 2
    assert "the line is cut" in lost[0]["message"]
