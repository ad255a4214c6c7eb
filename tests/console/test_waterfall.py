"""A round's page as a waterfall: where the time of its stages and devices lay."""

from __future__ import annotations

from datetime import timedelta

import pytest

from edgefl.console.ink import plain, width
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.waterfall import bar, falls
from edgefl.events.schema import Event
from tests.monitor.happened import happened, row_of

from .conftest import Recorder
from .driving import shown
from .test_app import Live, console

CELLS = 54
"""Two for each second of the round."""


def lines(events: list[Event], cells: int = CELLS, after_s: float = 23) -> dict[str, str]:
    row = row_of(events)
    return {fall.key: plain(bar(fall, cells)) for fall in falls(row, row.started + timedelta(seconds=after_s))}


def test_everything_lies_where_its_time_was() -> None:
    drawn = lines(happened())
    assert drawn["/select"] == "━" * 8 + " " * 46
    assert drawn["/send"] == " " * 8 + "━" + " " * 45
    assert drawn["edge-01"] == " " * 10 + "━" * 6 + "╍" * 2 + " " * 36, "what was too short for a cell gave way to what followed"
    assert drawn["edge-02"] == " " * 8 + "─" + "━" * 12 + "╍" * 5 + " " * 28
    assert drawn["edge-03"] == " " * 8 + "╌" * 40 + " " * 6
    assert drawn["/evaluate"] == " " * 50 + "━" * 4
    assert {len(line) for line in drawn.values()} == {CELLS}


def test_who_owes_a_reply_is_waited_for_until_now() -> None:
    drawn = lines(happened()[:5], cells=22, after_s=7)
    assert drawn["edge-03"] == " " * 8 + "┄" * 14
    assert set(drawn) == {"/select", "edge-01", "edge-02", "edge-03"}


@pytest.mark.parametrize("cells", [1, 2, 24, 500])
def test_a_bar_is_as_wide_as_its_column_however_that_is(cells: int) -> None:
    row = row_of(happened())
    assert {width(bar(fall, cells)) for fall in falls(row, row.started)} == {cells}


def test_a_stage_is_not_a_device_of_its_name() -> None:
    recorder = Recorder()
    recorder.events = [
        event.model_copy(
            update={"body": type(event.body).model_validate_json(event.body.model_dump_json().replace("edge-03", "send"))}
        )
        for event in happened()
    ]
    row = row_of(recorder.events)
    keys = [fall.key for fall in falls(row, row.started)]
    assert keys.count("send") == keys.count("/send") == 1


@pytest.mark.slow
async def test_v_shows_where_the_time_of_a_round_went() -> None:
    events = happened()
    async with console(Live(events), len(events)) as (app, pilot):
        await pilot.press("2", "enter")
        assert "VERDICT" in shown(app)
        assert "select" not in shown(app)
        await pilot.press("v")
        await pilot.pause()
        text = shown(app)
        assert [
            name
            for name in ("select", "send", "edge-01", "edge-02", "edge-03", "score", "aggregate", "evaluate")
            if name not in text
        ] == []
        assert "╌╌╌╌" in text
        assert "no update" in text, "the legend"
        assert "…" not in text, "nothing is cut"
        await pilot.press("enter")
        assert not isinstance(app.stage.top, DevicePage), "a stage opens nothing"
        await pilot.press("down", "down", "enter")
        assert isinstance(app.stage.top, DevicePage)
        assert app.stage.top.title == "edge-01"
        await pilot.press("escape", "v")
        await pilot.pause()
        assert "VERDICT" in shown(app)


@pytest.mark.slow
async def test_where_there_is_room_updates_and_times_are_both_there(events: list[Event]) -> None:
    async with console(Live(events), len(events), size=(160, 50)) as (app, pilot):
        await pilot.press("2", "enter")
        await pilot.pause()
        assert all(text in shown(app) for text in ("COSINE", "select", "evaluate", "━ train"))
        assert "v Times" not in shown(app)
        await pilot.press("tab", "end", "slash", *"edge-04", "enter")
        await pilot.pause()
        assert shown(app).count("edge-06") == 1, "the filter acts on the table that has the keyboard"
