"""A device is drained in the middle of a run, switched off, and comes back in the same run: no round misses it."""

from __future__ import annotations

import pytest

from .conftest import Fleet, last_object, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

DEVICE = "edge-04"


def test_a_drained_device_may_be_switched_off_and_no_round_waits_for_it(fleet: Fleet) -> None:
    serial, deeds = fleet.device(DEVICE)["certificate"]["serial"], len(fleet.deeds(DEVICE))
    with fleet.training():
        drained = fleet.edgefl("drain", DEVICE, "--why", "new disk", "--json")
        assert drained.returncode == 0, drained.stdout + drained.stderr
        at = fleet.round()
        assert fleet.device(DEVICE)["state"] == "drained"
        fleet.on(DEVICE, "systemctl", "stop", "edgefl-supernode")
        until(lambda: fleet.device(DEVICE)["connected"] is False, "the SuperLink to miss it")
        attention = last_object(fleet.edgefl("status", "--json"))["attention"]
        assert DEVICE not in {concern["subject"] for concern in attention}
        fleet.await_round(at + 2)
        fleet.on(DEVICE, "systemctl", "start", "edgefl-supernode")
        until(lambda: fleet.device(DEVICE)["connected"], "it to be back")
        back = fleet.edgefl("undrain", DEVICE, "--why", "the disk is in", "--json")
        assert back.returncode == 0, back.stdout + back.stderr
        fleet.await_round(fleet.round() + 2)
    started = fleet.happened("round_started")
    run = started[-1]["run"]
    rounds = {round_["round"]: round_["devices"] for round_ in started if round_["run"] == run and round_["round"] > at}
    assert DEVICE not in rounds[min(rounds)]
    assert DEVICE in rounds[max(rounds)]
    assert DEVICE not in {drop["device"] for drop in fleet.happened("device_dropped") if drop["run"] == run}
    assert fleet.device(DEVICE)["certificate"]["serial"] == serial, "nothing on it changed"
    assert fleet.deeds(DEVICE)[deeds:] == ["drain", "undrain"]
