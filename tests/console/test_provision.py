"""Provision driven by its keys, with real plans; what an apply says comes from streams of real ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgefl.console.app import Console
from edgefl.console.controls import Controls
from edgefl.console.feed import News, SiteFeed
from edgefl.console.live import Link
from edgefl.console.pages.editor import Editor
from edgefl.console.pages.first import FirstRun
from edgefl.console.pages.host import HostPage
from edgefl.console.pages.outcome import OutcomePage
from edgefl.console.provisioning.tree import Mark, Tree
from edgefl.console.provisioning.works import Works
from edgefl.console.screens.confirm import Confirm
from edgefl.console.views.fleet import Fleet
from edgefl.console.views.provision import Provision
from edgefl.errors import EdgeflError, NotProvisioned
from edgefl.operations.lock import site_lock
from edgefl.site import load

from .driving import Driven, shown, until
from .provisioning.conftest import stream_of
from .sites import ADOPTED, gated

ERROR = EdgeflError("edge-02: The service is ready: no space left", hint="edgefl doctor edge-02")


class Nothing:
    """A feed of a site that is not provisioned."""

    is_live = True

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        raise NotProvisioned("clinic is not provisioned yet")
        yield


@asynccontextmanager
async def provision(
    works: Works | None, *, size: tuple[int, int] = (100, 40), controls: Controls | None = None
) -> AsyncIterator[tuple[Console, Driven]]:
    app = Console(Nothing(), works=works, controls=controls, theme="edgefl-dark", opens="Provision")
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.frame.link is Link.ABSENT)
        yield app, pilot


async def sees(pilot: Driven, *texts: str) -> None:
    """Wait until all of these stand on the screen."""
    app = pilot.app
    assert isinstance(app, Console)
    await until(pilot, lambda: all(text in shown(app) for text in texts))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(ADOPTED)
    return tmp_path


def done(directory: Path, name: str = "converge", error: EdgeflError | None = ERROR) -> Works:
    """Works whose last operation is a recorded one."""
    works = Works(directory)
    works._tree = Tree("up", "clinic", 0.0).tell_all(stream_of(name), 1.0).finish(75.0, error)
    return works


@pytest.mark.slow
async def test_capital_p_shows_the_plan_as_one_tree(site: Path) -> None:
    async with provision(Works(site)) as (app, pilot):
        assert isinstance(app.stage.top, Provision)
        await pilot.press("P")
        await sees(pilot, "✓ planned  plan of clinic", "15 would change", "A applies it")
        for text in ("infrastructure", "+ edge-01  will be created", "certificates", "its gate certificate for 24 h"):
            assert text in shown(app)


@pytest.mark.slow
async def test_capital_a_plans_first_and_asks_once_with_exactly_what_will_change(site: Path) -> None:
    works = Works(site)
    async with provision(works) as (app, pilot):
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await sees(pilot, "Apply to clinic", "will be created: edge-01, edge-02, hub")
        await pilot.press("enter")
        assert not works.is_running, "the answer under Enter changes nothing"
        assert works.tree is works.planned.tree if works.planned else None


@pytest.mark.slow
async def test_a_plan_of_another_site_yaml_is_not_what_is_asked_about(site: Path) -> None:
    works = Works(site)
    async with provision(works) as (app, pilot):
        await pilot.press("P")
        await until(pilot, lambda: works.planned is not None and not works.is_running)
        (site / "site.yaml").write_text(ADOPTED.replace("edge-02", "edge-22"))
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await sees(pilot, "will be created: edge-01, edge-22, hub")


@pytest.mark.slow
async def test_an_apply_on_a_site_that_somebody_holds_says_who(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefl.operations.task.find_spec", lambda _: None)  # the task is read, not imported
    works = Works(site)
    async with provision(works) as (app, pilot):
        await pilot.press("P")
        await until(pilot, lambda: works.planned is not None and not works.is_running)
        with site_lock(load(site), "down"):
            await pilot.press("A")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press("y")
            await sees(pilot, "✖ failed  apply of clinic", "`edgefl down` (process", "next: wait for it")
            await until(pilot, lambda: not works.is_running)
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await sees(pilot, "The last apply did not come to its end")


@pytest.mark.slow
async def test_a_terraform_that_fails_shows_why_on_the_failed_resource(tmp_path: Path) -> None:
    module = tmp_path / "terraform"
    module.mkdir()
    (module / "main.tf").write_text(
        'variable "devices" {}\noutput "inventory" {\n  value = []\n  precondition {\n    condition = length(var.devices) > 99\n'
        '    error_message = "No rack has room."\n  }\n}\n'
    )
    own = "infrastructure: {module: own, source: ./terraform}"
    (tmp_path / "site.yaml").write_text(ADOPTED.replace("infrastructure: {module: static}", own))
    async with provision(Works(tmp_path)) as (app, pilot):
        await pilot.press("P")
        await sees(pilot, "✖ failed  plan of clinic")
        top = app.stage.top
        assert isinstance(top, Provision)
        marks = {line.key: line.mark for line in top.grid.rows}
        assert (marks["task"], marks["infrastructure"]) == (Mark.DONE, Mark.FAILED), "the task can be trained"
        await pilot.press("home", *["down"] * list(marks).index("infrastructure"), "enter")
        await sees(pilot, "terraform plan failed", "No rack has room.")
        await pilot.press("escape")
        assert app.stage.top is top


@pytest.mark.slow
async def test_capital_c_asks_once_cancels_and_the_same_key_goes_on(tmp_path: Path) -> None:
    gate = gated(tmp_path)
    works = Works(tmp_path)
    async with provision(works) as (app, pilot):
        assert "C Cancel" not in shown(app)
        await pilot.press("P")
        await until(pilot, lambda: gate.process() is not None)
        await sees(pilot, "● at work  plan", "C Cancel")
        assert "P Plan" not in shown(app)
        await pilot.press("C", "enter")
        assert not works.is_stopping, "the answer under Enter changes nothing"
        await pilot.press("C", "y")
        await sees(pilot, "■ stopped  plan", "nothing is lost; P plans again")
        await until(pilot, lambda: not works.is_running)
        gate.open()
        await pilot.press("P")
        await sees(pilot, "✓ planned")


@pytest.mark.slow
async def test_leaving_the_view_does_not_stop_what_is_at_work_and_its_end_is_told_anywhere(tmp_path: Path) -> None:
    gate = gated(tmp_path)
    works = Works(tmp_path)
    async with provision(works) as (app, pilot):
        await pilot.press("P")
        await until(pilot, lambda: gate.process() is not None)
        await pilot.press("1")
        assert isinstance(app.stage.top, Fleet)
        assert works.is_running
        gate.open()
        await sees(pilot, "the plan is done")
        await pilot.press("5")
        await sees(pilot, "15 would change")


@pytest.mark.slow
async def test_q_asks_while_something_is_at_work_and_ends_it_first(tmp_path: Path) -> None:
    gate = gated(tmp_path)
    works = Works(tmp_path)
    async with provision(works) as (app, pilot):
        await pilot.press("P")
        await until(pilot, lambda: gate.process() is not None)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        assert app.is_running
        assert works.is_running
        await pilot.press("q", "y")
        await until(pilot, lambda: not app.is_running)
    assert works.tree is not None
    assert works.tree.mark is Mark.STOPPED


@pytest.mark.slow
async def test_enter_on_a_failed_host_shows_the_modules_result_and_the_likely_fix(site: Path) -> None:
    async with provision(done(site)) as (app, pilot):
        await sees(pilot, "✖ failed  apply of clinic  1m15s", "✖ edge-02  no space left")
        top = app.stage.top
        assert isinstance(top, Provision)
        top.grid.select("configuration/1//The service is ready/edge-02")
        await pilot.press("enter")
        assert isinstance(app.stage.top, OutcomePage)
        await sees(pilot, "no space left", "next: edgefl doctor edge-02", "what ansible.builtin.command said", "rc: 3")
        await pilot.press("escape")
        assert app.stage.top is top


@pytest.mark.slow
async def test_enter_and_the_arrows_open_and_close_branches(site: Path) -> None:
    async with provision(done(site)) as (app, pilot):
        top = app.stage.top
        assert isinstance(top, Provision)
        await sees(pilot, "▸ ~ Every host has its files")
        top.grid.select("configuration/0")
        await pilot.press("enter")
        await sees(pilot, "▾ ~ Every host has its files", "The host knows its name")
        await pilot.press("left")
        await sees(pilot, "▸ ~ Every host has its files")
        await pilot.press("right", "down", "right")
        await sees(pilot, "▾ ~ The directory is there")
        await pilot.press("down", "left")
        selected = top.grid.selected
        assert selected is not None
        assert selected.name == "The directory is there", "from a line without branches to what it is in"
        assert selected.is_open is False


@pytest.mark.slow
async def test_enter_on_a_hosts_bar_shows_every_task_that_it_has_been_through(site: Path) -> None:
    async with provision(done(site)) as (app, pilot):
        top = app.stage.top
        assert isinstance(top, Provision)
        await sees(pilot, "✖✖~~~")
        top.grid.select("configuration/hosts/edge-02")
        await pilot.press("enter")
        assert isinstance(app.stage.top, HostPage)
        await sees(pilot, "▸ edge-02", "~ The directory is there", "✖ The service is ready")
        await pilot.press("s", "s", "s", "enter")
        await sees(pilot, "next: edgefl doctor edge-02")


@pytest.mark.slow
async def test_the_cursor_follows_the_newest_line_until_it_is_moved(site: Path) -> None:
    works = Works(site)
    events = stream_of("converge")
    async with provision(works, size=(80, 24)) as (app, pilot):
        top = app.stage.top
        assert isinstance(top, Provision)
        works._is_running = True
        works._tree = Tree("up", "clinic", 0.0).tell_all(events[:8], 1.0)
        await until(pilot, lambda: top.grid.selected is not None and top.grid.selected is top.grid.rows[-1])
        works._tree = works._tree.tell_all(events[8:15], 2.0)
        await sees(pilot, "The services start")
        assert top.grid.selected is top.grid.rows[-1]
        await pilot.press("home")
        works._tree = works._tree.tell_all(events[15:], 3.0)
        await sees(pilot, "The service is well")
        assert top.grid.selected is top.grid.rows[0]
        works._is_running = False


@pytest.mark.slow
async def test_without_works_no_key_changes_anything(site: Path) -> None:
    async with provision(None) as (app, pilot):
        await sees(pilot, "this console only watches")
        for key in ("P", "A", "C", "E"):
            await pilot.press(key)
        assert not isinstance(app.screen, Confirm)
        assert isinstance(app.stage.top, Provision)
        for does in ("P Plan", "A Apply", "C Cancel", "E Edit"):
            assert does not in shown(app)
        assert not (site / ".edgefl").exists()


@pytest.mark.slow
async def test_an_empty_directory_begins_with_three_answers_and_ends_in_a_plan(tmp_path: Path) -> None:
    directory = tmp_path / "ward-7"
    async with provision(Works(directory)) as (app, pilot):
        await until(pilot, lambda: isinstance(app.stage.top, FirstRun))
        await sees(pilot, "There is no site.yaml in", "●▌ lab", "○▌ static", "○▌ own")
        await pilot.press("down", "enter", "tab")
        await sees(pilot, "○▌ lab", "●▌ static")
        await pilot.press("tab", "backspace", "0", "tab", "enter")
        await sees(pilot, "✖ devices: a number from 1 to 200")
        await pilot.press("shift+tab", "backspace", "2", "enter")
        await until(pilot, lambda: isinstance(app.stage.top, Editor))
        await sees(pilot, "name: ward", "✓ saved", "valid")
        site = load(directory)
        assert (site.name, site.infrastructure.module, len(site.devices)) == ("ward", "static", 2)
        await pilot.press("escape")
        assert isinstance(app.stage.top, Provision)
        await pilot.press("P")
        await sees(pilot, "✓ planned  plan of ward")


@pytest.mark.slow
async def test_a_console_waits_for_the_identity_that_up_makes(site: Path) -> None:
    app = Console(SiteFeed(site), works=Works(site), controls=SiteFeed(site), theme="edgefl-dark", opens="Provision")
    async with app.run_test(size=(80, 24)) as pilot:
        await sees(pilot, "○ not provisioned")
        assert "r Run" not in shown(app), "there is nothing that could run"
        assert not app.frame.is_stale
        assert not (site / ".edgefl").exists(), "looking makes nothing"
