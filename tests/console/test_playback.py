"""Recordings on the screen: round by round, to any moment, and played."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgefl.console.app import Console
from edgefl.console.feed import ReplayFeed
from edgefl.console.pages.round import RoundPage
from edgefl.events.schema import Event
from edgefl.monitor.state import FederationState

from .conftest import write_recording
from .driving import shown, until
from .test_app import Live, console, names


@pytest.mark.slow
async def test_brackets_step_through_a_recording_round_by_round(recording: Path, state: FederationState) -> None:
    async with console(ReplayFeed(recording), state.seq, size=(120, 40)) as (app, pilot):
        await pilot.press("2", "left_square_bracket")
        await until(pilot, lambda: "step 29 of 30" in shown(app))
        assert names(app)[0] == "29"
        assert app.frame.state.rounds[-1].state == "finished"
        await pilot.press(*["left_square_bracket"] * 40)
        assert "step 1 of 30" in shown(app), "there is nothing before the first"
        assert names(app) == ["1"]
        assert app.frame.now == app.frame.state.at, "its clock is the recording's"
        await pilot.press(*["right_square_bracket"] * 2)
        assert names(app)[0] == "3"
        await pilot.press(*["right_square_bracket"] * 40)
        assert app.frame.step is None
        assert app.frame.state.seq == state.seq
        await pilot.press("left_square_bracket", "p")
        assert app.frame.state.seq == state.seq, "p lets the picture catch up"


@pytest.mark.slow
async def test_back_from_the_middle_of_a_round_is_the_end_of_the_one_before(events: list[Event], tmp_path: Path) -> None:
    cut = events[:-5]
    async with console(ReplayFeed(write_recording(cut, tmp_path / "cut.ndjson")), len(cut), size=(120, 40)) as (app, pilot):
        await pilot.press("2", "left_square_bracket")
        await until(pilot, lambda: "step 29 of 29" in shown(app))
        assert names(app)[0] == "29"
        await pilot.press("right_square_bracket")
        assert app.frame.step is None
        assert names(app)[0] == "30"


@pytest.mark.slow
async def test_at_seeks_in_a_recording_and_round_keeps_its_meaning(recording: Path, events: list[Event]) -> None:
    async with console(ReplayFeed(recording), len(events), size=(120, 40)) as (app, pilot):
        await pilot.press("2", "colon", *"at round 1")
        await until(pilot, lambda: "at round 12" in shown(app))
        await pilot.press("2", "enter")
        await until(pilot, lambda: "‖ recording" in shown(app))
        assert names(app)[0] == "12"
        assert app.frame.state == FederationState().apply_all(event for event in events if event.at <= app.frame.now)
        await pilot.press("colon", *"at 09:03", "enter")
        await until(pilot, lambda: "09:03:00" in shown(app))
        await pilot.press("colon", *"round 5", "enter")
        await until(pilot, lambda: isinstance(app.stage.top, RoundPage))
        await pilot.press("colon", *"at 08:00", "enter")
        await until(pilot, lambda: "no moment '08:00'" in shown(app))
        assert app.frame.now == datetime(2026, 3, 2, 9, 3, tzinfo=UTC)


@pytest.mark.slow
async def test_plus_plays_a_recording_and_keeps_painting_it(recording: Path, events: list[Event]) -> None:
    now = 0.0
    app = Console(ReplayFeed(recording), theme="edgefl-dark", clock=lambda: now)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.frame.state.seq == len(events))
        await pilot.press("2", "plus", "plus", "plus", "plus", "plus")
        await until(pilot, lambda: "▷ 20×" in shown(app) and "no rounds yet" in shown(app))
        now = 10.0
        await until(pilot, lambda: "09:03:20" in shown(app))
        assert names(app)[0] == str(app.frame.state.rounds[-1].number)
        await pilot.press("minus", "p")
        await until(pilot, lambda: "‖ recording  09:03:20" in shown(app))
        await pilot.press("p")
        assert app.frame.speed == 10


@pytest.mark.slow
async def test_a_live_feed_has_no_steps(events: list[Event]) -> None:
    async with console(Live(events), len(events)) as (app, pilot):
        await pilot.press("left_square_bracket", "plus", "minus")
        assert app.frame.state.seq == len(events)
        assert not app.frame.is_paused
        assert not app.frame.speed
        await pilot.press("colon", *"at 50%", "enter")
        await until(pilot, lambda: "there is no 'at 50%' here" in shown(app))
