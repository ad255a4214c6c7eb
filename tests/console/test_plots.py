"""Rounds as plots: what was learnt and what was sent, of the fleet and of one device."""

from __future__ import annotations

import pytest

from edgefl.console import summary
from edgefl.console.ink import plain
from edgefl.console.pages.device import DevicePage, course
from edgefl.console.pages.updates import Part
from edgefl.events.schema import Event
from edgefl.monitor.round import UpdateRow
from edgefl.monitor.state import FederationState

from .conftest import ATTACKER, ROUNDS
from .driving import shown
from .test_app import Live, console


def test_the_norm_of_a_round_is_that_of_its_middle_update(state: FederationState) -> None:
    done = state.rounds[-1]
    norms = sorted(update.norm for update in done.updates.values() if update.norm is not None)
    assert summary.middle_norm(done) == norms[len(norms) // 2]


def test_a_device_is_marked_in_each_round_in_which_it_went_over_its_threshold(state: FederationState) -> None:
    parts = [Part(done.number, done.updates[ATTACKER]) for done in state.rounds if ATTACKER in done.updates]
    series, latest = course(parts, lambda update: update.score, over=True)
    assert series.level == 2.5
    assert series.marks == tuple(float(number) for number in range(3, ROUNDS + 1))
    assert [x for x, _ in series.points] == [float(number) for number in range(1, ROUNDS + 1)]
    assert plain(latest) == f"{series.points[-1][1]:.2f}"
    assert course(parts, lambda update: update.norm)[0].level is None


def test_what_was_not_measured_is_not_drawn() -> None:
    parts = [Part(1, UpdateRow(device="edge-01")), Part(2, UpdateRow(device="edge-01", norm=float("nan")))]
    series, latest = course(parts, lambda update: update.norm)
    assert series.points == ()
    assert plain(latest) == "no value yet"


@pytest.mark.slow
async def test_v_shows_the_other_pair_of_plots_where_there_is_room_for_one(events: list[Event]) -> None:
    async with console(Live(events), len(events)) as (app, pilot):
        await pilot.press("2")
        assert "accuracy  0.9" in shown(app)
        assert "update norm" not in shown(app)
        await pilot.press("v")
        await pilot.pause()
        assert "update norm  1." in shown(app)
        assert "sent up  10M in the last round" in shown(app)
        assert "accuracy" not in shown(app)
        await pilot.resize_terminal(160, 50)
        await pilot.pause()
        assert all(title in shown(app) for title in ("accuracy  0.9", "loss  0.", "update norm", "sent up"))
        assert "v Plots" not in shown(app), "all are there"


@pytest.mark.slow
async def test_a_device_has_its_rounds_as_plots(events: list[Event]) -> None:
    async with console(Live(events), len(events)) as (app, pilot):
        await pilot.press(*["down"] * 6, "enter")
        assert isinstance(app.stage.top, DevicePage)
        assert "accuracy here" not in shown(app), "a low terminal keeps the room for its rows"
        await pilot.press("v")
        await pilot.pause()
        assert "accuracy here" in shown(app)
        assert "✖" in shown(app)
        await pilot.press("v")
        await pilot.pause()
        assert "accuracy here" not in shown(app)
        await pilot.resize_terminal(160, 50)
        await pilot.pause()
        for title in ("accuracy here  0.9", "score  ", "╌ threshold  ✖ over it", "update norm  "):
            assert title in shown(app)
