"""The console with the mouse alone: everything that is done here is a click on what stands on the screen."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from edgefl.console.app import Console
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.flag import FlagPage
from edgefl.console.screens.confirm import Confirm
from edgefl.console.screens.export import Export
from edgefl.console.screens.help import Help
from edgefl.console.screens.jump import Jump
from edgefl.console.view import GridView
from edgefl.console.views.rounds import Rounds
from edgefl.console.views.security import Security
from edgefl.console.widgets.grid import Grid, Sorting
from edgefl.events.schema import Event

from .driving import Driven, shown, until
from .test_app import Coordinator, Live, console, names


async def click(pilot: Driven, text: str, *, line: int | None = None) -> None:
    """Click where this stands on the screen, once it does."""
    app = pilot.app
    assert isinstance(app, Console)

    def places() -> list[tuple[int, int]]:
        lines = enumerate(shown(app).splitlines())
        return [(said.index(text), y) for y, said in lines if text in said and line in (None, y)]

    await until(pilot, lambda: bool(places()))
    await pilot.pause()
    x, y = places()[0]
    await pilot.click(offset=(x + len(text) // 2, y))


def grid(app: Console) -> Grid[object]:
    top = app.stage.top
    assert isinstance(top, GridView)
    return top.grid


def exported(directory: Path) -> list[str]:
    [path] = directory.glob("*.csv")
    return [row["device"] for row in csv.DictReader(path.open())]


@pytest.mark.slow
async def test_from_a_flag_to_its_evidence_to_the_device_and_back_by_clicks(events: list[Event]) -> None:
    async with console(Live(events), len(events), size=(120, 36)) as (app, pilot):
        await click(pilot, "4 Security")
        assert isinstance(app.stage.top, Security)
        await click(pilot, "27  guard")
        assert isinstance(app.stage.top, FlagPage)
        await click(pilot, "edge-07  ⚑")
        assert isinstance(app.stage.top, DevicePage)
        await click(pilot, "Back")
        assert isinstance(app.stage.top, FlagPage)
        await click(pilot, "4 Security")
        assert app.stage.trail == ()


@pytest.mark.slow
async def test_a_run_is_stopped_by_clicks(events: list[Event]) -> None:
    coordinator = Coordinator()
    async with console(Live(events), len(events), size=(120, 36), controls=coordinator) as (app, pilot):
        await click(pilot, "x Stop")
        assert isinstance(app.screen, Confirm)
        await click(pilot, "Leave it (n)")
        assert coordinator.stopped == []
        await click(pilot, "x Stop")
        await click(pilot, "Stop (y)")
        await until(pilot, lambda: coordinator.stopped == ["4"])


@pytest.mark.slow
async def test_rows_are_marked_at_their_edge_and_exported_by_clicks(
    events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with console(Live(events), len(events), size=(120, 36)) as (app, pilot):
        for device in ("edge-03", "edge-05"):
            at = next(y for y, said in enumerate(shown(app).splitlines()) if device in said)
            await pilot.click(offset=(0, at))
        assert len(grid(app).marked) == 2
        await click(pilot, "e Export")
        assert isinstance(app.screen, Export)
        await click(pilot, "the 2 marked rows as CSV")
        await until(pilot, lambda: bool(list(tmp_path.glob("*.csv"))))
        assert exported(tmp_path) == ["edge-03", "edge-05"]
        await click(pilot, "e Export")
        await click(pilot, "nothing: close")
        assert not isinstance(app.screen, Export)


@pytest.mark.slow
async def test_a_click_in_the_help_presses_the_key_of_its_line(events: list[Event]) -> None:
    async with console(Live(events), len(events), size=(120, 44)) as (app, pilot):
        await click(pilot, "ACC")
        assert grid(app).sorting == Sorting("acc", reverse=True)
        best = names(app)[0]
        await click(pilot, "? Help")
        assert isinstance(app.screen, Help)
        await click(pilot, "Reverse")
        await until(pilot, lambda: grid(app).sorting == Sorting("acc", reverse=False))
        assert names(app)[-1] == best
        await click(pilot, "? Help")
        await pilot.click(offset=(0, 0))
        assert not isinstance(app.screen, Help), "a click beside it closes it"
        assert names(app)[-1] == best


@pytest.mark.slow
async def test_a_click_on_an_offer_jumps_there(events: list[Event]) -> None:
    async with console(Live(events), len(events), size=(120, 36)) as (app, pilot):
        await click(pilot, ": Jump")
        assert isinstance(app.screen, Jump)
        await until(pilot, lambda: "… and" in shown(app))
        offers = next(y for y, said in enumerate(shown(app).splitlines()) if "│  rounds" in said)
        await click(pilot, "rounds", line=offers)
        await until(pilot, lambda: isinstance(app.stage.top, Rounds))
