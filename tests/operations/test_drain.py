"""Drain and undrain: what the journal is told, when the command ends, and what is left as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgefl.errors import Locked
from edgefl.events.schema import Body, DeviceState, Event, OperatorAction, RoundFinished, RoundStarted, RunStarted
from edgefl.fleet.hosts import HostUnknown
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.health import concerns
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status
from edgefl.operations import drain as module
from edgefl.operations.drain import drain, undrain
from edgefl.operations.lock import site_lock
from edgefl.operations.reporting import standings
from edgefl.operations.state import inventory_file
from edgefl.progress import Finished, Progress, Step, Warned
from edgefl.site.model import Site

DEVICES = ["edge-01", "edge-02", "edge-03"]
DONE = RoundFinished(
    accuracy=None, loss=None, participants=[], dropped=[], rejected=[], flagged=[], bytes_up=0, bytes_down=0, seconds={}
)


class Monitor:
    """The journal and the state that follows from it. then: what happens the next time that somebody looks, one event a look."""

    def __init__(self) -> None:
        self.events: list[tuple[Body, int]] = []
        self.then: list[Body] = []
        self.looks = 0

    def happens(self, *bodies: Body) -> None:
        self.events += [(body, 1) for body in bodies]

    @property
    def state(self) -> FederationState:
        state = FederationState.enrolled("clinic", DEVICES)
        for seq, (body, round_) in enumerate(self.events, 1):
            state = state.apply(
                Event(seq=seq, at=datetime.now(UTC), run="1", round=round_, version=1, body=body, previous="", hash="")
            )
        return state

    async def status(self, *, updates: bool = True) -> SimpleNamespace:
        self.looks += 1
        if self.then and self.looks > 2:
            self.happens(self.then.pop(0))
        return SimpleNamespace(state=self.state)

    async def append(self, *bodies: Body) -> int:
        self.events += [(body, 0) for body in bodies]
        return len(self.events)

    def said(self) -> list[tuple[str, str]]:
        return [(body.device, body.state) for body, _ in self.events if isinstance(body, DeviceState)]


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Monitor:
    there = Monitor()

    @asynccontextmanager
    async def watching(_: Site) -> AsyncIterator[Monitor]:
        yield there

    monkeypatch.setattr(module, "watching", watching)
    monkeypatch.setattr(module, "_POLL_S", 0.0)
    return there


@pytest.fixture
def site(tmp_path: Path) -> Site:
    names: list[dict[str, Any]] = [{"name": name} for name in DEVICES]
    made = Site.model_validate({"name": "clinic", "devices": names, "run": {"quorum": 0.6}}).at(tmp_path)
    hosts = [Host("coordinator", "coordinator", "10.77.0.10", 22, "root")]
    hosts += [Host(name, "device", f"10.77.0.{11 + place}", 22, "root") for place, name in enumerate(DEVICES)]
    made.state.mkdir(parents=True)
    Inventory(tuple(hosts)).save(inventory_file(made))
    return made


async def through(events: AsyncIterator[Progress]) -> list[Progress]:
    return [event async for event in events]


def steps(events: Sequence[Progress]) -> dict[str, str]:
    return {event.subject: event.what for event in events if isinstance(event, Step | Warned)}


async def test_a_device_that_trains_is_waited_for_until_its_round_is_over(monitor: Monitor, site: Site) -> None:
    started = RunStarted(site="clinic", site_hash="", task="t", rounds=3, devices=DEVICES, quorum=2, rule="mean")
    monitor.happens(started, RoundStarted(devices=DEVICES, deadline_s=9))
    monitor.then = [OperatorAction(who="somebody", action="look")] * 3 + [DONE]
    found = await through(drain(site, ["edge-02"], why="new disk"))
    assert monitor.then == [], "it had looked until the round was over"
    assert steps(found) == {"edge-02": "has nothing to do any more"}
    row = monitor.state.devices["edge-02"]
    assert (row.state, row.detail) == ("drained", "new disk")
    actions = [body for body, _ in monitor.events if isinstance(body, OperatorAction) and body.action == "drain"]
    assert [(action.subject, action.why) for action in actions] == [("edge-02", "new disk")]


async def test_a_second_time_changes_nothing_and_undrain_undoes_it_once(monitor: Monitor, site: Site) -> None:
    await through(drain(site, ["edge-02"], why="new disk"))
    told = len(monitor.events)
    again = await through(drain(site, ["edge-02"], why="new disk"))
    assert len(monitor.events) == told
    assert isinstance(again[-1], Finished)
    assert not again[-1].changed
    found = await through(undrain(site, ["edge-02", "edge-03"], why="it is in"))
    assert steps(found) == {"edge-02": "is asked again", "edge-03": "was not drained"}
    await through(undrain(site, ["edge-02"], why="it is in"))
    assert monitor.said() == [("edge-02", "drained"), ("edge-02", "undrained")]
    assert monitor.state.devices["edge-02"].state == "enrolled"


async def test_too_few_that_are_left_are_said(monitor: Monitor, site: Site) -> None:
    found = await through(drain(site, ["edge-01", "edge-02"], why="ward 3 moves"))
    [short] = [event for event in found if isinstance(event, Warned)]
    assert "1 of 3 devices are left, and a round needs 2" in short.what
    assert not [event for event in await through(drain(site, ["edge-01"], why="x")) if event.subject == "edge-03"]


async def test_quarantine_goes_before_a_drain_and_its_release_ends_both(monitor: Monitor, site: Site) -> None:
    monitor.happens(DeviceState(device="edge-01", state="quarantined"))
    assert "is in quarantine" in steps(await through(drain(site, ["edge-01"], why="x")))["edge-01"]
    assert "stays there" in steps(await through(undrain(site, ["edge-01"], why="x")))["edge-01"]
    assert monitor.state.devices["edge-01"].state == "quarantined"
    await through(drain(site, ["edge-02"], why="x"))
    monitor.happens(DeviceState(device="edge-02", state="quarantined"), DeviceState(device="edge-02", state="undrained"))
    assert monitor.state.devices["edge-02"].state == "quarantined"
    monitor.happens(DeviceState(device="edge-02", state="enrolled"))
    assert monitor.state.devices["edge-02"].state == "enrolled"


async def test_up_leaves_it_drained_and_that_it_is_off_is_no_concern(monitor: Monitor, site: Site) -> None:
    await through(drain(site, ["edge-02"], why="new disk"))
    assert list(standings(site, monitor.state)) == []
    monitor.happens(DeviceState(device="edge-02", state="offline"))
    status = Status(state=monitor.state, now=datetime.now(UTC), quorum=2, version="1", superlink="", journal="")
    assert "edge-02" not in {concern.subject for concern in concerns(status)}
    assert "edge-03" in {concern.subject for concern in concerns(status)}, "it has not come online yet"


async def test_who_is_no_device_is_refused_and_so_is_a_site_at_work(monitor: Monitor, site: Site) -> None:
    with pytest.raises(HostUnknown, match="there is no host edge-9"):
        await through(drain(site, ["edge-9"], why="x"))
    with pytest.raises(HostUnknown, match="is the coordinator"):
        await through(undrain(site, ["coordinator"], why="x"))
    with site_lock(site, "up"), pytest.raises(Locked):
        await through(drain(site, ["edge-01"], why="x"))
    assert monitor.said() == []
