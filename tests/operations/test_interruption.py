"""What `up` would do to a run that is going, as functions of what Terraform and Ansible would do, and as it is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgefl.errors import EdgeflError, ExitCode
from edgefl.infra.changes import Action, Change
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.errors import Busy, MonitorUnreachable
from edgefl.operations import interruption
from edgefl.operations.interruption import RunGoing, foreseen, restarted, spared, uprooted
from edgefl.operations.state import inventory_file
from edgefl.operations.up import up
from edgefl.progress import Finished, Progress, Step
from edgefl.site.model import Site

HOSTS = (Host("coordinator", "coordinator", "10.77.0.10", 22, "root"), Host("edge-01", "device", "10.77.0.11", 22, "root"))
BUNDLE: Any = None
"""What would be put on hosts: whoever asks here what Ansible would do looks at none."""
SUPERLINK = ["edgefl-superlink", "edgefl-monitor"]


def step(host: str = "coordinator", units: Sequence[str] = ()) -> Step:
    return Step("configuration", host, "The coordinator's services are started", changed=True, detail={"restarted": list(units)})


class Standing:
    """A site that stands, with a run. would: units that a converge would start anew. changes: Terraform's.

    touched: what was done. looked_at: of what Ansible's check was.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        devices = [{"name": "edge-01"}, {"name": "edge-02"}]
        self.site = Site.model_validate({"name": "clinic", "devices": devices}).at(directory)
        Inventory(HOSTS).save(inventory_file(self.site))
        self.run: SimpleNamespace | None = SimpleNamespace(id="4", status="running")
        self.would: list[str] = []
        self.changes: list[Change] = []
        self.touched: list[Any] = []
        self.wrong: EdgeflError | None = None
        monkeypatch.setattr(interruption, "watching", self.watching)
        monkeypatch.setattr("edgefl.fleet.ansible.converge", self.converge)
        monkeypatch.setattr("edgefl.infra.terraform.Terraform", lambda _: self)

    @asynccontextmanager
    async def watching(self, _: Site, **how: Any) -> AsyncIterator[Standing]:
        if self.wrong is not None:
            raise self.wrong
        yield self

    async def status(self, *, updates: bool) -> SimpleNamespace:
        return SimpleNamespace(state=SimpleNamespace(run=self.run))

    async def plan(self) -> AsyncIterator[Progress]:
        yield Finished("infrastructure", "", "compared")

    async def apply(self) -> AsyncIterator[Progress]:
        self.touched.append("infrastructure")
        raise EdgeflError("this far and no further")
        yield

    async def converge(
        self, site: Site, inventory: Inventory, package: object, *, limit: Sequence[str] | None = None, **how: Any
    ) -> AsyncIterator[Progress]:
        if how.get("check") is not True:
            self.touched.append(limit)
        self.looked_at = (limit, [host.name for host in inventory.hosts], [device.name for device in site.devices])
        yield step("edge-01", SUPERLINK)
        yield step("coordinator", self.would)


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    return Standing(tmp_path, monkeypatch)


async def through(events: AsyncIterator[Progress]) -> list[Progress]:
    return [event async for event in events]


def change(name: str, action: Action, before: Mapping[str, Any] | None = None) -> Change:
    return Change("host", name, action, before or {}, {})


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ([change("coordinator", "replace")], True),
        ([change("coordinator", "update", {"running": False})], True),
        ([change("coordinator", "update", {"memory_mb": 512})], False),
        ([change("edge-02", "create"), change("edge-01", "delete")], False),
    ],
)
def test_a_coordinator_that_is_made_or_booted_anew_ends_a_run(changes: list[Change], ends: bool) -> None:
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]})
    assert list(uprooted(site, changes)) == (["the host coordinator is made or booted anew"] if ends else [])


@pytest.mark.parametrize(
    ("event", "ends"),
    [
        (step(units=SUPERLINK), ["edgefl-superlink starts anew"]),
        (step(units=["edgefl-superexec"]), ["edgefl-superexec starts anew"]),
        (step(units=["edgefl-gate", "edgefl-monitor", "edgefl-prometheus"]), []),
        (step("edge-01", ["edgefl-superexec"]), []),
        (Finished("configuration", "coordinator", "as the site says"), []),
    ],
)
def test_two_of_the_coordinators_services_end_a_run_where_they_start_anew(event: Progress, ends: list[str]) -> None:
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]})
    assert list(restarted(site, event)) == ends


async def test_a_run_that_would_end_is_spared_with_the_reason_and_what_to_do(standing: Standing) -> None:
    standing.would = SUPERLINK
    with pytest.raises(RunGoing) as refused:
        await through(spared(standing.site, BUNDLE))
    assert refused.value.exit_code == ExitCode.LOCKED
    assert "run 4 is going, and would end: edgefl-superlink starts anew. Nothing was changed" in refused.value.what
    assert "edgefl up --now" in refused.value.hint
    assert standing.touched == []
    assert standing.looked_at == (["coordinator"], ["coordinator", "edge-01"], ["edge-01"]), "edge-02 has no host yet"


async def test_a_host_that_is_yet_to_watch_has_no_part_in_a_run_either(standing: Standing) -> None:
    observability = {"prometheus": True, "devices": True, "host": {"name": "watch"}}
    site = Site.model_validate({**standing.site.model_dump(), "observability": observability}).at(standing.site.root)
    standing.site, standing.would = site, SUPERLINK
    with pytest.raises(RunGoing, match="edgefl-superlink starts anew"):
        await through(spared(site, BUNDLE))
    assert standing.looked_at == (["coordinator"], ["coordinator", "edge-01"], ["edge-01"])


async def test_a_host_that_would_be_made_anew_is_not_even_looked_at(standing: Standing) -> None:
    standing.changes = [change("coordinator", "replace")]
    with pytest.raises(RunGoing, match="the host coordinator is made or booted anew"):
        await through(spared(standing.site, BUNDLE))
    assert not hasattr(standing, "looked_at")


async def test_what_leaves_the_run_alone_is_done_and_said(standing: Standing) -> None:
    standing.would = ["edgefl-gate", "edgefl-monitor"]
    *_, last = await through(spared(standing.site, BUNDLE))
    assert (type(last), last.stage, last.what) == (Finished, "run", "run 4 goes on: nothing that it lives in starts anew")


@pytest.mark.parametrize("why", ["no run", "a finished run", "a silent coordinator"])
async def test_where_no_run_is_known_of_nothing_is_asked(standing: Standing, why: str) -> None:
    standing.would = SUPERLINK
    if why == "a silent coordinator":
        standing.wrong = MonitorUnreachable("the coordinator does not answer")
    else:
        standing.run = None if why == "no run" else SimpleNamespace(id="4", status="finished")
    assert await through(spared(standing.site, BUNDLE)) == []
    assert await through(foreseen(standing.site, ["edgefl-superlink starts anew"])) == []


async def test_a_monitor_that_has_no_time_is_not_taken_for_one_without_a_run(standing: Standing) -> None:
    standing.wrong = Busy("it has enough to do")
    with pytest.raises(Busy):
        await through(spared(standing.site, BUNDLE))


async def test_a_plan_says_that_the_run_would_end(standing: Standing) -> None:
    assert await through(foreseen(standing.site, [])) == []
    seen = await through(foreseen(standing.site, ["edgefl-superlink starts anew"]))
    [would] = [event for event in seen if isinstance(event, Step)]
    assert (would.subject, would.what, would.changed) == ("4", "would end: edgefl-superlink starts anew", True)


async def test_up_touches_nothing_where_it_would_end_the_run_unless_it_is_told_to(
    standing: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> AsyncIterator[Progress]:
        return
        yield

    for name in ("prove_task", "gathered", "lab_ground"):
        monkeypatch.setattr(f"edgefl.operations.up.{name}", nothing)
    monkeypatch.setattr("edgefl.fleet.bundle.Bundle.load", lambda _: SimpleNamespace(path=standing.site.state))
    monkeypatch.setattr("edgefl.lab.machine.demand", lambda: None)
    standing.would = SUPERLINK
    with pytest.raises(RunGoing):
        await through(up(standing.site))
    assert standing.touched == []
    with pytest.raises(EdgeflError, match="this far"):
        await through(up(standing.site, now=True))
    assert standing.touched == ["infrastructure"]
    standing.would = ["edgefl-monitor"]
    with pytest.raises(EdgeflError, match="this far"):
        await through(up(standing.site))
