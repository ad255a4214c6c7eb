"""site.yaml edited in the console: checked while it is typed, saved when it is asked for, never lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgefl.console.app import Console
from edgefl.console.pages.editor import Editor
from edgefl.console.provisioning.works import Works
from edgefl.console.widgets.yaml import YamlArea

from .driving import Driven, until
from .sites import ADOPTED
from .test_provision import provision, sees


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(ADOPTED)
    return tmp_path


@asynccontextmanager
async def editor(site: Path) -> AsyncIterator[tuple[Console, Driven, YamlArea]]:
    async with provision(Works(site)) as (app, pilot):
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.stage.top, Editor))
        area = app.query_one(YamlArea)
        await until(pilot, lambda: not area.read_only)
        yield app, pilot, area


@pytest.mark.slow
async def test_what_is_wrong_shows_after_a_pause_and_enter_goes_to_its_line(site: Path) -> None:
    async with editor(site) as (_app, pilot, area):
        await sees(pilot, "✓ saved", "valid", "nothing is wrong with it")
        area.move_cursor((3, 0))
        await pilot.press(*"privcy: 3", "enter")
        await sees(pilot, "1 problem", "unknown key 'privcy'", "did you mean privacy?", "not saved, kept as a draft")
        assert area._highlights[3][0][2] == "problem"
        area.move_cursor((6, 0))
        await pilot.press("tab", "enter")
        assert area.has_focus
        assert area.cursor_location[0] == 3
        assert (site / "site.yaml").read_text() == ADOPTED, "nothing is saved until it is asked for"


@pytest.mark.slow
async def test_ctrl_s_saves_and_the_letters_of_other_keys_are_text(site: Path) -> None:
    async with editor(site) as (app, pilot, _area):
        await pilot.press(*"# q12pPACE/:", "enter", "ctrl+s")
        await sees(pilot, "✓ saved")
        assert app.is_running
        assert (site / "site.yaml").read_text() == f"# q12pPACE/:\n{ADOPTED}"


@pytest.mark.slow
async def test_what_was_typed_is_there_again_and_ctrl_r_takes_the_file(site: Path) -> None:
    async with editor(site) as (app, pilot, _area):
        await pilot.press(*"# mine", "enter", "escape")
        await sees(pilot, "site.yaml is not saved")
        assert (site / "site.yaml").read_text() == ADOPTED
        await pilot.press("E")
        await sees(pilot, "a draft that was never saved", "# mine")
        await pilot.press("ctrl+r")
        await sees(pilot, "✓ saved")
        assert app.query_one(YamlArea).text == ADOPTED


@pytest.mark.slow
async def test_what_was_typed_outlives_the_console(site: Path) -> None:
    async with editor(site) as (app, pilot, area):
        await pilot.press(*"# mine")
        app.exit()
        await until(pilot, lambda: not app.is_running)
    async with editor(site) as (_, pilot, area):
        await sees(pilot, "a draft that was never saved")
        assert area.text == f"# mine{ADOPTED}"


@pytest.mark.slow
async def test_what_somebody_else_saved_is_overwritten_only_when_asked_twice(site: Path) -> None:
    async with editor(site) as (_, pilot, _area):
        await pilot.press(*"# mine", "enter")
        (site / "site.yaml").write_text("# theirs\n")
        await pilot.press("ctrl+s")
        await sees(pilot, "was changed by somebody else")
        assert (site / "site.yaml").read_text() == "# theirs\n"
        await pilot.press("ctrl+s")
        await sees(pilot, "✓ saved")
        assert (site / "site.yaml").read_text() == f"# mine\n{ADOPTED}"


@pytest.mark.slow
async def test_a_new_line_begins_as_far_in_as_the_one_above(site: Path) -> None:
    async with editor(site) as (_, pilot, area):
        area.move_cursor((4, len("  - {name: edge-01, address: 192.0.2.11}")))
        await pilot.press("enter", *"- {name: edge-03}")
        assert area.text.splitlines()[5] == "  - {name: edge-03}"


@pytest.mark.slow
async def test_comments_step_back_and_keys_stand_out(site: Path) -> None:
    (site / "site.yaml").write_text(f"# ε is spent\n{ADOPTED}")
    async with editor(site) as (_, _, area):
        assert area._highlights[0] == [(0, None, "comment")]
        assert area._highlights[1] == [(0, 4, "key")]
