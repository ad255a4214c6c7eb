"""A device's page asks the device itself how its services are, for as long as somebody looks at it."""

from __future__ import annotations

import pytest

from edgefl.console.pages import device as page
from edgefl.console.pages.device import DevicePage
from edgefl.events.schema import Event
from edgefl.fleet.finding import Finding

from .driving import shown, until
from .test_app import Live, console
from .test_lines import Hosts

WELL = Finding("edge-01", "edgefl-supernode", "good", "runs")
ILL = Finding("edge-01", "edgefl-superexec", "bad", "is failed (failed, exit-code)", "edgefl logs edge-01")


@pytest.mark.slow
async def test_services_are_told_with_what_to_do_and_asked_again(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_ASKED_S", 0.01)
    hosts = Hosts("coordinator", "edge-01")
    async with console(Live(events), len(events), size=(120, 36), logs=hosts) as (app, pilot):
        await pilot.press("enter")
        assert isinstance(app.stage.top, DevicePage)
        await until(pilot, lambda: "services  ! not known: edge-01 does not answer on SSH" in shown(app))
        hosts.services_of["edge-01"] = [WELL, ILL]
        await until(pilot, lambda: "✖ edgefl-superexec is failed (failed, exit-code)" in shown(app))
        assert "services  ✓ edgefl-supernode runs" in shown(app)
        assert "next: edgefl logs edge-01" in shown(app)
        hosts.services_of["edge-01"] = [WELL]
        await until(pilot, lambda: "edgefl-superexec" not in shown(app))
        await pilot.press("escape")
        await until(pilot, lambda: not [worker for worker in app.workers if worker.group == "services"])


@pytest.mark.slow
async def test_a_recording_has_no_services_to_ask_for(events: list[Event]) -> None:
    async with console(Live(events), len(events), size=(120, 36)) as (app, pilot):
        await pilot.press("enter")
        assert isinstance(app.stage.top, DevicePage)
        assert "services" not in shown(app)
