"""Every key: those that work everywhere are pressed everywhere, and of every other one some test is known that presses it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding
from textual.command import CommandPalette
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widget import Widget

from edgefl.console.acting import Acting
from edgefl.console.app import Console
from edgefl.console.archive import Recording
from edgefl.console.feed import ReplayFeed
from edgefl.console.query import Query
from edgefl.console.screens.export import Export
from edgefl.console.screens.help import Help
from edgefl.console.screens.jump import Jump
from edgefl.console.view import GridView
from edgefl.console.views import VIEWS
from edgefl.console.widgets.grid import Grid, Sorting
from edgefl.events.schema import Event

from .driving import until
from .test_app import Live, console
from .test_wards import then

PLACES = {
    "Fleet": ["1"],
    "Rounds": ["2"],
    "Privacy": ["3"],
    "Security": ["4"],
    "Audit": ["7"],
    "DevicePage": ["1", "enter"],
    "RoundPage": ["2", "enter"],
    "FlagPage": ["4", "enter"],
    "Whole": ["7", "enter"],
}
"""Views and pages on a recording, and the keys that lead there."""
MOVES = {"end": -1, "home": 0, "down": 1, "j": 2, "k": 1, "up": 0, "G": -1, "g": 0}
"""Where the cursor is after each, one after the other."""
SCREENS: dict[str, type[Screen[Any]]] = {"e": Export, "colon": Jump, "question_mark": Help, "ctrl+p": CommandPalette}
NAMED = {"Acting": "Console", "Tail": "Logs", "FilterLine": "slash", "Export": "export"}
"""What a test says where it does not name the class itself."""
TESTS = Path(__file__).parents[1]


@pytest.mark.slow
async def test_each_view_has_its_number(recording: Path, events: list[Event]) -> None:
    async with console(ReplayFeed(recording), len(events)) as (app, pilot):
        for number, view in enumerate(VIEWS, 1):
            await pilot.press(str(number))
            assert type(app.stage.top) is view


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
async def test_the_keys_that_work_everywhere_do(place: str, recording: Path, events: list[Event]) -> None:
    async with console(ReplayFeed(recording), len(events), size=(120, 40), archive=Recording(recording)) as (app, pilot):
        await pilot.press(*PLACES[place])
        top = app.stage.top
        assert type(top).__name__ == place
        assert isinstance(top, GridView)
        grid = top.grid
        last = len(grid.rows) - 1
        assert last >= 2
        for key, at in MOVES.items():
            await pilot.press(key)
            assert grid._cursor == at % (last + 1), key
        await pilot.press("pagedown")
        assert grid._cursor > 0
        await pilot.press("pageup")
        assert grid._cursor == 0

        await pilot.press("space", "y")
        assert len(grid.marked) == 1
        assert app.clipboard == top.copied(grid.rows[0])
        await pilot.press("escape")
        assert (grid.marked, app.stage.top) == ([], top)
        await pilot.press("s")
        assert grid.sorting.column
        turned = Sorting(grid.sorting.column, not grid.sorting.reverse)
        await pilot.press("S")
        assert grid.sorting == turned
        await pilot.press("slash", *"nosuchthing")
        assert (grid.filter, len(grid.rows)) == (Query("nosuchthing"), 0)
        await pilot.press("escape")
        assert len(grid.rows) == last + 1

        for key, screen in SCREENS.items():
            await pilot.press(key)
            assert isinstance(app.screen, screen), key
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, ModalScreen))
        await pilot.press("p")
        assert app.frame.is_paused
        await pilot.press("p", "left_square_bracket")
        assert app.frame.step is not None
        await pilot.press("right_square_bracket")
        assert app.frame.step is None
        assert app.stage.top is top


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
async def test_a_picture_that_is_due_when_the_console_ends_is_not_drawn(place: str, recording: Path, events: list[Event]) -> None:
    async with console(ReplayFeed(recording), len(events), archive=Recording(recording)) as (app, pilot):
        await pilot.press(*PLACES[place])
    assert not app.screen_stack
    app.paint()


def bound() -> Iterator[tuple[type[DOMNode], str]]:
    """The console's own classes, each with every key that it binds itself."""
    waiting: list[type[DOMNode]] = [Acting, Widget]
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        if found.__module__.startswith("edgefl."):
            for binding in found.__dict__.get("BINDINGS", ()):
                keys = binding.key if isinstance(binding, Binding) else binding[0]
                yield from ((found, key) for key in keys.split(","))


def pressed(module: Path) -> set[str]:
    """Every key that the module's tests press: what is given to `press`, letter by letter where it is a text to be typed."""
    keys: set[str] = set()
    for call in (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "press":
            for given in call.args:
                texts = [node.value for node in ast.walk(given) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
                typed = isinstance(given, ast.Starred) and isinstance(given.value, ast.Constant)
                keys |= {letter for text in texts for letter in text} if typed else set(texts)
    return keys


def test_every_key_is_pressed_by_a_test_of_what_it_belongs_to() -> None:
    modules = [(path.read_text(), pressed(path)) for path in TESTS.rglob("test_*.py")]
    everywhere = pressed(Path(__file__)) | {*MOVES, *SCREENS, *(str(number) for number, _ in enumerate(VIEWS, 1))}
    missing = [
        f"{owner.__name__}: {key}"
        for owner, key in bound()
        if key not in (everywhere if owner in (Console, GridView, Grid) else set())
        and not any(NAMED.get(owner.__name__, owner.__name__) in text and key in keys for text, keys in modules)
    ]
    assert missing == [], "no test presses these, in a module that names their owner"


ACTIONS = ("r", "x", "Q", "R", "D", "U", "T", "c", "P", "A", "C", "E")
"""The keys that change something."""


@pytest.mark.slow
async def test_readonly_refuses_each_action_everywhere(events: list[Event]) -> None:
    said = then(events, "quarantined", "edge-01")
    async with console(Live(said), len(said), size=(160, 50)) as (app, pilot):
        for place in [*PLACES.values(), ["5"], ["6"]]:
            await pilot.press(*place)
            top = app.stage.top
            bound = {key: active.binding.action for key, active in app.screen.active_bindings.items() if active.enabled}
            assert bound.keys().isdisjoint(ACTIONS), (place, "neither the last line, nor `?`, nor the palette offers any")
            assert bound.get("V", "verify") == "verify", (place, "of the chain, in Audit, and of no host's isolation")
            for key in ACTIONS:
                await pilot.press(key)
                assert app.stage.top is top, (place, key)
                assert not isinstance(app.screen, ModalScreen), (place, key)
