"""What `edgefl stop` asks of the coordinator, and what it says of the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from edgefl.events.schema import Body, Event, RunFinished, RunStarted
from edgefl.monitor.state import FederationState
from edgefl.operations.stop import stop
from edgefl.progress import Finished
from edgefl.site.model import Site

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]})
STARTED = RunStarted(site="clinic", site_hash="", task="t", rounds=3, devices=["edge-01"], quorum=1, rule="mean")


@dataclass
class Coordinator:
    """A coordinator with these events; it remembers what it was asked to stop. ends: whether the run was still going."""

    events: list[Body]
    ends: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def status(self, *, updates: bool = True) -> SimpleNamespace:
        state = FederationState.enrolled("clinic", ["edge-01"])
        for seq, body in enumerate(self.events, start=1):
            event = Event(seq=seq, at=datetime.now(UTC), run="7", round=0, version=1, body=body, previous="", hash="")
            state = state.apply(event)
        return SimpleNamespace(state=state)

    async def stop_run(self, run: str, why: str = "") -> bool:
        self.asked.append((run, why))
        return self.ends


async def stopped(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> Finished:
    @asynccontextmanager
    async def watching(site: Site) -> AsyncIterator[Coordinator]:
        assert site is SITE
        yield coordinator

    monkeypatch.setattr("edgefl.operations.stop.watching", watching)
    [said] = [event async for event in stop(SITE, why="wrong data")]
    assert isinstance(said, Finished)
    return said


async def test_the_run_that_is_going_is_stopped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = Coordinator([STARTED])
    said = await stopped(coordinator, monkeypatch)
    assert coordinator.asked == [("7", "wrong data")]
    assert (said.what, said.changed, said.detail) == ("run 7 is stopping", True, {"run": "7"})


@pytest.mark.parametrize("events", [[], [STARTED, RunFinished(status="completed", accuracy=0.9)]])
async def test_with_no_run_going_nothing_is_asked(events: list[Body], monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = Coordinator(events)
    said = await stopped(coordinator, monkeypatch)
    assert coordinator.asked == []
    assert (said.what, said.changed, said.detail) == ("no run is going", False, {"run": ""})


async def test_a_run_that_ended_meanwhile_was_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    said = await stopped(Coordinator([STARTED], ends=False), monkeypatch)
    assert (said.what, said.changed, said.detail) == ("no run is going", False, {"run": ""})
