"""`:` by what is typed, and by its keys."""

from __future__ import annotations

import pytest

from edgefl.console.jump import Nowhere, lead, places
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.round import RoundPage
from edgefl.console.screens.jump import Jump
from edgefl.console.views import VIEWS
from edgefl.console.views.fleet import Fleet
from edgefl.console.views.privacy import Privacy
from edgefl.monitor.evolve import evolve
from edgefl.monitor.state import FederationState

from .driving import shown, until
from .test_app import Recorded, console


def test_every_place_on_offer_leads_somewhere(state: FederationState) -> None:
    offered = places(state, VIEWS)
    assert len(offered) == len(VIEWS) + 10 + 30 + 1
    for place in offered:
        found = lead(place, state, VIEWS)
        assert (found.view is None) != (found.page is None), place


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("device edge-03", "edge-03"),
        ("edge-03", "edge-03"),
        ("round 12", "round 12"),
        ("12", "round 12"),
        ("  round   7 ", "round 7"),
    ],
)
def test_a_name_or_a_number_alone_is_enough(typed: str, title: str, state: FederationState) -> None:
    page = lead(typed, state, VIEWS).page
    assert page is not None
    assert page.title == title


@pytest.mark.parametrize(
    ("typed", "near"),
    [("device edge-3", ":device edge-03"), ("flet", ":fleet"), ("zzz", ":fleet, :device NAME"), ("run 3", ":run 4")],
)
def test_what_is_not_there_is_answered_with_the_nearest(typed: str, near: str, state: FederationState) -> None:
    with pytest.raises(Nowhere) as nowhere:
        lead(typed, state, VIEWS)
    assert nowhere.value.hint is not None
    assert nowhere.value.hint.startswith(near)


@pytest.mark.slow
async def test_colon_jumps_and_tab_completes(state: FederationState) -> None:
    async with console(Recorded(state), state.seq, size=(100, 40)) as (app, pilot):
        await pilot.press("colon", *"pri", "tab", "enter")
        await until(pilot, lambda: isinstance(app.stage.top, Privacy))
        await pilot.press("colon")
        assert isinstance(app.screen, Jump)
        await pilot.press(*"device edge-1")
        await until(pilot, lambda: "device edge-10" in shown(app))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.stage.top, DevicePage))
        assert app.stage.trail == ("edge-10",)
        await pilot.press("colon", *"12", "enter")
        await until(pilot, lambda: isinstance(app.stage.top, RoundPage))


def test_an_earlier_run_says_how_it_is_replayed(state: FederationState) -> None:
    assert state.run is not None
    before = evolve(state, runs=(evolve(state.run, id="3"),))
    with pytest.raises(Nowhere) as nowhere:
        lead("run 3", before, VIEWS)
    assert nowhere.value.hint == "edgefl rounds --run 3 --record run-3.ndjson, then edgefl console --replay run-3.ndjson"
    assert lead("run 4", before, VIEWS).view == 1


@pytest.mark.slow
async def test_a_jump_to_nothing_says_so_and_stays(state: FederationState) -> None:
    async with console(Recorded(state), state.seq, size=(100, 40)) as (app, pilot):
        await pilot.press("colon", *"edge-99", "enter")
        await until(pilot, lambda: "there is no 'edge-99' here" in shown(app))
        assert isinstance(app.stage.top, Fleet)
        await pilot.press("colon", *"rounds", "escape")
        assert isinstance(app.stage.top, Fleet)
        assert not isinstance(app.screen, Jump)
