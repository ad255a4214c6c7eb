"""The Logs view driven by its keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from textual.events import MouseScrollUp

from edgefl.console.app import Console
from edgefl.console.lines import Entry
from edgefl.console.views import VIEWS
from edgefl.console.views.fleet import Fleet
from edgefl.console.views.logs import COLUMNS, Logs
from edgefl.monitor.logs import Hearing
from edgefl.monitor.state import FederationState

from .conftest import DEVICES
from .driving import Driven, shown, until
from .test_app import Recorded, console
from .test_lines import Hosts, line

KEY = str(VIEWS.index(Logs) + 1)


@asynccontextmanager
async def logs(state: FederationState, size: tuple[int, int] = (100, 24)) -> AsyncIterator[tuple[Console, Driven, Hosts]]:
    """A console on its Logs view with 40 lines."""
    hosts = Hosts("coordinator", *DEVICES)
    async with console(Recorded(state), state.seq, size=size, logs=hosts) as (app, pilot):
        assert hosts.open == [], "nothing is read before the view is opened"
        await pilot.press(KEY)
        for second in range(40):
            hosts.said.put_nowait(line(second, message=f"line {second:02d}"))
        await until(pilot, lambda: "line 39" in shown(app))
        yield app, pilot, hosts
    assert hosts.open == [], "the reading ends with the console"


@pytest.mark.slow
async def test_lines_are_followed_until_the_operator_goes_up_and_again_at_the_end(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        assert "● following" in shown(app)
        assert "11 hosts" in shown(app)
        await pilot.press("up", "pageup")
        await until(pilot, lambda: "‖ scrolled back: end follows" in shown(app))
        before = [row for row in shown(app).splitlines() if "line " in row]
        for second in (40, 41):
            hosts.said.put_nowait(line(second, message=f"line {second}"))
        await until(pilot, lambda: "‖ scrolled back, 2 new: end follows" in shown(app))
        assert [row for row in shown(app).splitlines() if "line " in row and "lines" not in row] == before
        await pilot.press("G")
        await until(pilot, lambda: "● following" in shown(app) and "line 41" in shown(app))
        hosts.said.put_nowait(line(42, message="line 42"))
        await until(pilot, lambda: "line 42" in shown(app))


@pytest.mark.slow
async def test_the_wheel_scrolls_back_and_the_last_row_follows_again(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        await pilot._post_mouse_events([MouseScrollUp], offset=(20, 10), button=0)
        await until(pilot, lambda: "‖ scrolled back" in shown(app))
        await pilot.press("down")
        await until(pilot, lambda: "● following" in shown(app))
        hosts.said.put_nowait(line(40, message="line 40"))
        await until(pilot, lambda: "line 40" in shown(app))


@pytest.mark.slow
async def test_sorting_stops_following_and_end_is_the_order_of_time_again(state: FederationState) -> None:
    async with logs(state) as (app, pilot, _):
        await pilot.press("S")
        await until(pilot, lambda: "‖ scrolled back" in shown(app))
        await pilot.press("end")
        await until(pilot, lambda: "● following" in shown(app))
        assert [entry.number for entry in app.query_one(Logs).grid.rows] == list(range(1, 41))


@pytest.mark.slow
async def test_host_level_and_text_are_filtered_while_lines_come(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        hosts.said.put_nowait(line(50, "edge-03", "the gate does not answer", "warning"))
        await pilot.press("slash", *"host:edge-03", "space", *"level:warn", "space", *"gate")
        await until(pilot, lambda: "1 of 41" in shown(app))
        assert "! warning" in shown(app)
        hosts.said.put_nowait(line(51, "edge-03", "the gate answers", "info"))
        hosts.said.put_nowait(line(52, "edge-03", "the gate is gone", "warning"))
        await until(pilot, lambda: "2 of 43" in shown(app))
        assert "the gate is gone" in shown(app)
        assert "the gate answers" not in shown(app)


@pytest.mark.slow
async def test_since_in_the_filter_reads_from_then_on_once_it_is_entered_and_esc_reads_the_end_again(
    state: FederationState,
) -> None:
    async with logs(state) as (app, pilot, hosts):
        await pilot.press("slash", *"since:10m", "space", *"old")
        await until(pilot, lambda: "0 of 40" in shown(app))
        assert [wanted.since for wanted in hosts.asked] == [None], "what is typed opens no connection"
        before = datetime.now(UTC)
        await pilot.press("enter")
        await until(pilot, lambda: len(hosts.asked) == 2 and "0 lines" in shown(app))
        since = hosts.asked[-1].since
        assert since is not None
        assert timedelta(0) <= since + timedelta(minutes=10) - before < timedelta(minutes=1)
        assert f"since {since.astimezone():%m-%d %H:%M:%S}" in shown(app)
        hosts.said.put_nowait(line(0, message="an old line"))
        hosts.said.put_nowait(line(1, message="another"))
        await until(pilot, lambda: "1 of 2" in shown(app) and "an old line" in shown(app))
        await pilot.press("slash", "escape")
        await until(pilot, lambda: [wanted.since for wanted in hosts.asked] == [None, since, None])
        await until(pilot, lambda: "since" not in shown(app))


@pytest.mark.slow
async def test_a_moment_that_is_none_is_said_and_what_is_read_goes_on(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        await pilot.press("slash", *"since:yesterday", "enter")
        await until(pilot, lambda: "! since: 'yesterday' is neither a time (2026-01-31T12:00) nor an age (10m)" in shown(app))
        hosts.said.put_nowait(line(50, message="line 50"))
        await until(pilot, lambda: "line 50" in shown(app))
        assert len(hosts.asked) == 1
        await pilot.press("slash", "escape")
        await until(pilot, lambda: "neither" not in shown(app))
        assert len(hosts.asked) == 1


@pytest.mark.slow
async def test_a_host_that_cannot_be_read_is_said_while_others_go_on(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        hosts.said.put_nowait(Hearing("edge-09", "edge-09 (10.77.0.19) does not answer on SSH", "edgefl doctor edge-09"))
        hosts.said.put_nowait(Hearing("edge-04", "no route"))
        hosts.said.put_nowait(line(50, message="line 50"))
        await until(pilot, lambda: "! 2 hosts cannot be read: edge-09, edge-04" in shown(app) and "line 50" in shown(app))
        assert "edge-09 (10.77.0.19) does not answer on SSH · next: edgefl doctor edge-09" in shown(app)
        for host in ("edge-09", "edge-04"):
            hosts.said.put_nowait(Hearing(host))
        await until(pilot, lambda: "does not answer" not in shown(app))


@pytest.mark.slow
async def test_enter_opens_a_line_whole_and_y_copies_it(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        hosts.said.put_nowait(line(50, message="Traceback:\n  File x\n" + "word " * 60 + "end of it"))
        await until(pilot, lambda: "Traceback:" in shown(app))
        await pilot.press("y")
        assert app.clipboard.startswith("Traceback:\n  File x\nword")
        await pilot.press("enter")
        await until(pilot, lambda: "end of it" in shown(app))
        assert "edgefl-supernode" in shown(app)
        assert app.stage.trail == ("edge-01 supernode",)


@pytest.mark.slow
async def test_l_reads_the_row_the_marked_rows_or_the_pages_device_and_a_reads_all(state: FederationState) -> None:
    hosts = Hosts("coordinator", *DEVICES)
    async with console(Recorded(state), state.seq, logs=hosts) as (app, pilot):
        await pilot.press("down", "l")
        await until(pilot, lambda: hosts.open == [("edge-02",)])
        assert isinstance(app.stage.top, Logs)
        await pilot.press("1", "space", "down", "space", "l")
        await until(pilot, lambda: hosts.open == [("edge-02", "edge-03")])
        await until(pilot, lambda: "edge-02, edge-03 · a reads all" in shown(app))
        await pilot.press("1", "escape", "home", "enter", "l")
        await until(pilot, lambda: hosts.open == [("edge-01",)])
        await pilot.press("a")
        await until(pilot, lambda: hosts.open == [("coordinator", *DEVICES)])
        await pilot.press("1")
        assert isinstance(app.stage.top, Fleet)
        assert len(hosts.open) == 1, "the reading goes on behind other views"


@pytest.mark.slow
async def test_lines_of_hosts_that_are_not_read_any_more_go(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        await pilot.press("up")
        hosts.said.put_nowait(line(50, message="line 50"))
        await until(pilot, lambda: "1 new: end follows" in shown(app))
        await pilot.press("l")
        await until(pilot, lambda: hosts.open == [("edge-01",)] and "● following · edge-01 · a reads all · 0 lines" in shown(app))
        assert "no lines yet" in shown(app)


@pytest.mark.slow
async def test_a_recording_has_no_logs_and_the_view_says_so(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("l")
        await until(pilot, lambda: "a recording has no logs" in shown(app))


@pytest.mark.slow
async def test_a_frozen_picture_takes_no_lines(state: FederationState) -> None:
    async with logs(state) as (app, pilot, hosts):
        await pilot.press("p")
        hosts.said.put_nowait(line(50, message="line 50"))
        await until(pilot, hosts.said.empty)
        await asyncio.sleep(0.3)
        await pilot.press("up", "end")
        await pilot.pause(0.2)
        assert "line 50" not in shown(app)
        await pilot.press("p")
        await until(pilot, lambda: "line 50" in shown(app))


@pytest.mark.slow
async def test_with_a_filter_and_five_thousand_lines_only_the_rows_in_sight_are_drawn(
    state: FederationState, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[int] = set()
    message = COLUMNS[-1]

    def counted(entry: Entry, cells: int):  # type: ignore[no-untyped-def]
        drawn.add(entry.number)
        return message.draw(entry, cells)

    monkeypatch.setattr("edgefl.console.views.logs.COLUMNS", (*COLUMNS[:-1], replace(message, draw=counted)))
    async with logs(state) as (app, pilot, hosts):
        for second in range(40, 6000):
            hosts.said.put_nowait(line(second, message=f"line {second}"))
        await until(pilot, lambda: "line 5999" in shown(app))
        await pilot.press("slash", *"line")
        await until(pilot, lambda: "5000 of 5000" in shown(app))
        drawn.clear()
        hosts.said.put_nowait(line(6000, message="line 6000"))
        await until(pilot, lambda: "line 6000" in shown(app))
        assert 0 < len(drawn) <= 2 * app.size.height
