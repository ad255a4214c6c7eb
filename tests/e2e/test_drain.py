"""A device is drained in the middle of a run, switched off, and comes back in the same run: no round misses it."""

from __future__ import annotations

import pytest

from .conftest import Fleet, in_background, last_object, until
from .test_quarantine import happened, row

pytestmark = pytest.mark.e2e

DEVICE = "edge-04"


def test_a_drained_device_may_be_switched_off_and_no_round_waits_for_it(fleet: Fleet) -> None:
    serial = row(fleet)["certificate"]["serial"]
    with in_background("run", "--site", str(fleet.directory), "--rounds", "60", "--json"):
        fleet.await_round(2)
        drained = fleet.edgefl("drain", DEVICE, "--why", "new disk", "--json")
        assert drained.returncode == 0, drained.stdout + drained.stderr
        at = fleet.round()
        assert row(fleet)["state"] == "drained"
        fleet.on(DEVICE, "systemctl", "stop", "edgefl-supernode")
        until(lambda: row(fleet)["connected"] is False, "the SuperLink to miss it")
        attention = last_object(fleet.edgefl("status", "--json"))["attention"]
        assert DEVICE not in {concern["subject"] for concern in attention}
        fleet.await_round(at + 2)
        fleet.on(DEVICE, "systemctl", "start", "edgefl-supernode")
        until(lambda: row(fleet)["connected"], "it to be back")
        back = fleet.edgefl("undrain", DEVICE, "--why", "the disk is in", "--json")
        assert back.returncode == 0, back.stdout + back.stderr
        fleet.await_round(fleet.round() + 2)
        fleet.edgefl("stop", "--why", "seen enough", "--json")
    rounds = {round_["round"]: round_["devices"] for round_ in happened(fleet, "round_started") if round_["round"] > at}
    assert DEVICE not in rounds[min(rounds)]
    assert DEVICE in rounds[max(rounds)]
    assert [drop for drop in happened(fleet, "device_dropped") if drop["device"] == DEVICE] == []
    assert row(fleet)["certificate"]["serial"] == serial, "nothing on it changed"
    done = [action["action"] for action in happened(fleet, "operator_action") if action["subject"] == DEVICE]
    assert [action for action in done if action != "verify"] == ["drain", "undrain"]
