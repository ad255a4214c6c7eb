"""An operation at work beside the screen: real plans of a real site, cancelled and gone on with."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edgefl.console.provisioning import changes
from edgefl.console.provisioning import works as works_module
from edgefl.console.provisioning.tree import Mark
from edgefl.console.provisioning.works import Works
from edgefl.lab.process import Process
from edgefl.operations.lock import site_lock
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site import Site, load

from ..sites import ADOPTED, Gate, gated


async def until(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110  # what works says, it says to whoever looks
            await asyncio.sleep(0.01)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return gated(tmp_path)


@pytest.mark.slow
async def test_a_cancelled_plan_leaves_nothing_at_work_and_the_next_one_is_whole(gate: Gate) -> None:
    works = Works(gate.directory)
    running = asyncio.create_task(works.run("plan"))
    await until(lambda: gate.process() is not None)
    pid = gate.process()
    works.cancel()
    assert works.is_stopping
    tree = await running
    assert tree.mark is Mark.STOPPED
    assert works.planned is None
    assert not works.is_running
    with pytest.raises(ProcessLookupError):
        os.kill(pid or 0, 0)
    with site_lock(load(gate.directory), "test"):
        pass  # nobody holds it any more
    gate.open()
    tree = await works.run("plan")
    assert (tree.mark, tree.site, tree.changed) == (Mark.DONE, "clinic", 15)
    assert works.planned is not None
    assert works.planned.tree is tree
    assert works.planned.digest == works.digest()


@pytest.mark.slow
async def test_a_plan_does_not_hold_up_the_loop_that_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(ADOPTED)
    works = Works(tmp_path)
    threads: set[int] = set()
    operation = works_module.OPERATIONS["plan"]

    async def heard(site: Site) -> AsyncIterator[Progress]:
        async for event in operation(site):
            threads.add(threading.get_ident())
            yield event

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(works_module.OPERATIONS, "plan", heard)  # type: ignore[arg-type]
        tree = await works.run("plan")
    assert tree.mark is Mark.DONE
    assert threads
    assert threading.get_ident() not in threads, "whatever in it blocks, blocks a thread of its own"


@pytest.mark.slow
async def test_who_ends_the_console_ends_the_operation_first(gate: Gate) -> None:
    works = Works(gate.directory)
    running = asyncio.create_task(works.run("plan"))
    await until(lambda: gate.process() is not None)
    await works.end()
    assert not works.is_running
    assert (await running).mark is Mark.STOPPED


@pytest.mark.slow
async def test_an_operation_whose_console_goes_away_is_ended_too(gate: Gate) -> None:
    works = Works(gate.directory)
    running = asyncio.create_task(works.run("plan"))
    await until(lambda: gate.process() is not None)
    process = Process.of(gate.process() or 0)
    assert process is not None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not process.is_alive)


async def test_a_site_that_somebody_else_holds_is_a_clear_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefl.operations.task.find_spec", lambda _: None)  # the task is read, not imported
    (tmp_path / "site.yaml").write_text(ADOPTED)
    works = Works(tmp_path)
    with site_lock(load(tmp_path), "down"):
        tree = await works.run("up")
    assert tree.mark is Mark.FAILED
    assert tree.fault is not None
    assert tree.fault.kind == "Locked"
    assert f"`edgefl down` (process {os.getpid()}" in tree.fault.what


async def test_a_site_that_is_wrong_fails_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(ADOPTED.replace("devices:", "devcies:"))
    works = Works(tmp_path)
    tree = await works.run("plan")
    assert works.planned is None, "there is nothing that could be applied"
    assert tree.fault is not None
    assert any("site.yaml:4" in line for line in tree.fault.lines)


async def test_an_error_that_nobody_foresaw_is_shown_and_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(site: Site) -> AsyncIterator[Progress]:
        yield Started("infrastructure", "", "is being made")
        raise ZeroDivisionError("by zero")

    monkeypatch.setitem(works_module.OPERATIONS, "up", broken)  # type: ignore[arg-type]
    (tmp_path / "site.yaml").write_text(ADOPTED)
    tree = await Works(tmp_path).run("up")
    assert tree.fault is not None
    assert tree.fault.what == "unexpected ZeroDivisionError: by zero"
    assert tree.stages[0].mark is Mark.FAILED


async def test_an_apply_that_came_to_its_end_leaves_nothing_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [ZeroDivisionError("by zero"), None]

    async def once(site: Site) -> AsyncIterator[Progress]:
        yield Started("infrastructure", "", "is being made")
        if error := ends.pop(0):
            raise error

    async def planned(site: Site) -> AsyncIterator[Progress]:
        yield Started("infrastructure", "", "is being compared")

    monkeypatch.setattr(works_module, "OPERATIONS", {"plan": planned, "up": once})
    (tmp_path / "site.yaml").write_text(ADOPTED)
    works = Works(tmp_path)
    await works.run("plan")
    await works.run("up")
    assert works.planned is not None, "what failed goes on with what was planned"
    await works.run("up")
    assert works.planned is None


@pytest.mark.parametrize("ends", [True, False])
async def test_an_apply_ends_a_run_only_where_the_question_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    told: list[bool] = []

    async def planned(site: Site) -> AsyncIterator[Progress]:
        if ends:
            yield Step("run", "4", "would end: edgefl-superlink starts anew", changed=True)
        yield Finished("configuration", "", "3 of 3 hosts changed", changed=True)

    async def applied(site: Site, *, now: bool = False) -> AsyncIterator[Progress]:
        told.append(now)
        yield Finished("infrastructure", "", "stands")

    monkeypatch.setattr(works_module, "OPERATIONS", {"plan": planned, "up": applied})
    (tmp_path / "site.yaml").write_text(ADOPTED)
    works = Works(tmp_path)
    plan = await works.run("plan")
    assert ("run: would end: 4" in changes.told(plan)) is ends
    await works.run("up")
    await works.run("up")
    assert told == [ends, False], "what was asked counts once"
