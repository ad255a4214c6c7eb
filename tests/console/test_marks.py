"""Marks on rows, and what the keys then act on."""

from __future__ import annotations

import pytest

from edgefl.console.pages.device import DevicePage
from edgefl.console.views.fleet import Fleet
from edgefl.events.schema import Event
from edgefl.monitor.state import FederationState

from .driving import shown, until
from .test_app import Live, Recorded, console


@pytest.mark.slow
async def test_space_marks_rows_through_sorting_filtering_and_new_frames(events: list[Event]) -> None:
    feed = Live(events[:-1])
    async with console(feed, len(events) - 1) as (app, pilot):
        await pilot.press("space", "down", "down", "space")
        await until(pilot, lambda: "● 2 marked, esc unmarks" in shown(app))
        assert "●edge-01" in shown(app)
        assert "◉edge-03" in shown(app), "the cursor and the mark are told apart without colour"
        await pilot.press("S")
        assert [app.query_one(Fleet).copied(row) for row in app.query_one(Fleet).chosen] == ["edge-03", "edge-01"]
        await pilot.press("slash", *"edge-02", "enter")
        await until(pilot, lambda: "1 of 10 · ● 2 marked" in shown(app))
        feed.more.put_nowait(events[-1])
        await until(pilot, lambda: app.frame.state.seq == len(events))
        await pilot.press("y")
        assert app.clipboard == "edge-01\nedge-03", "those that the filter hides are marked still, in their own order"
        await pilot.press("slash", "escape", "space")
        await until(pilot, lambda: "● 1 marked" in shown(app))
        await pilot.press("escape")
        await until(pilot, lambda: "marked" not in shown(app))
        assert isinstance(app.stage.top, Fleet)


@pytest.mark.slow
async def test_escape_unmarks_before_it_goes_back(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("enter", "space", "escape")
        assert isinstance(app.stage.top, DevicePage)
        await pilot.press("escape")
        assert isinstance(app.stage.top, Fleet)
