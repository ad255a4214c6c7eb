"""The last line: whole keys, as many as fit, and the way to all the others among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets._footer import FooterKey

from edgefl.console.widgets.keyline import fitting
from edgefl.events.schema import Event

from .driving import shown
from .test_app import Live
from .test_keys import PLACES
from .test_wards import console, then


def keys(*actions: str) -> list[FooterKey]:
    return [FooterKey(action[0], action[0], action.title(), action) for action in actions]


def test_the_least_telling_keys_go_first_and_only_as_many_as_must() -> None:
    all_ = keys("open", "sort", "stop", "pause", "help", "quit")
    assert fitting(all_, 42) == all_
    assert [key.action for key in fitting(all_, 41)] == ["open", "sort", "stop", "help", "quit"]
    assert [key.action for key in fitting(all_, 25)] == ["open", "stop", "help", "quit"][-3:]
    assert [key.action for key in fitting(all_, 1)] == ["stop", "help", "quit"], "what acts, helps and leaves never goes"


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 50)])
async def test_nothing_on_the_last_line_is_cut_on_any_view_or_page(
    size: tuple[int, int], events: list[Event], tmp_path: Path
) -> None:
    said = then(events, "quarantined", "edge-01")
    async with console(Live(said), len(said), tmp_path, size=size) as (app, pilot):
        for place in [*PLACES.values(), ["5"], ["6"]]:
            if place[0] == "7":
                continue  # the audit of a live feed without an archive has no rows to open
            await pilot.press(*place)
            await pilot.pause()
            line = shown(app).splitlines()[-1].rstrip()
            assert line.endswith("? Help q Quit"), (place, line)
            if app.stage.top.OF_DEVICES:
                assert "x Stop Q Quarantine" in line
        await pilot.press("4")
        await pilot.resize_terminal(160, 50)
        await pilot.pause()
        assert "⏎ Evidence / Filter s Sort tab Next table" in shown(app).splitlines()[-1], "room brings the others back"
