"""The coordinator's power fails in the middle of a round: the run goes on from its last complete one; nothing counts twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgefl import layout

from ..conftest import edgefl, in_background, last_object, until
from .conftest import Fleet

pytestmark = pytest.mark.e2e

ROUNDS = 3
LATE = "edge-04"
"""Kept from answering in the round that is lost, so that it is under way for as long as the test needs."""
OTHERS = ["edge-01", "edge-02", "edge-03"]
PYTHON = ("env", "PYTHONPATH=/opt/edgefl/current", "/opt/edgefl/venv/bin/python", "-c")
CHARGES = f"""
import json
from edgefl.federation.privacy.ledger import Ledger
from pathlib import Path
print(json.dumps([[charge.run, charge.round] for charge in Ledger(Path("{layout.LEDGER}")).charges()]))
"""
VERSIONS = f"""
import json
from edgefl.federation.checkpoint import Models
from pathlib import Path
print(json.dumps([[version.name, version.reputation] for version in Models(Path("{layout.MODELS}")).versions()]))
"""


def told(fleet: Fleet, host: str, user: str, program: str) -> Any:
    """What edgefl's own code on a host reads there, as the service's user."""
    done = fleet.on(host, "runuser", "-u", user, "--", *PYTHON, program)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rounds_judged(fleet: Fleet) -> dict[str, int]:
    """In how many rounds each device took part, by its reputation."""
    versions = told(fleet, "coordinator", layout.USER_SERVER, VERSIONS)
    return {device: standing["rounds"] for device, standing in versions[-1][1].items()} if versions else {}


def power(fleet: Fleet, action: str) -> None:
    """What happens to the coordinator's power, by the command that a user would try it with."""
    done = edgefl("lab", "--dir", str(fleet.lab.root), action, "coordinator")
    assert done.returncode == 0, done.stderr


def lose_power_in_round_two(fleet: Fleet) -> str:
    """Start a run, and kill the coordinator when all but one device have trained and answered in its second round; its id."""
    answered: set[str] = set()
    with in_background("run", "--site", str(fleet.directory), "--rounds", str(ROUNDS), "--json") as going:
        assert going.stdout
        number = json.loads(going.stdout.readline())["detail"]["run"]
        for line in going.stdout:
            said = json.loads(line)
            if said["type"] == "finished" and said["subject"] == "round 1":
                fleet.lab.freeze(LATE)
            if said["what"].startswith("round 2 update"):
                answered.add(said["subject"])
            if answered == set(OTHERS):
                power(fleet, "kill")
                return str(number)
    raise AssertionError(f"round 2 never waited for {LATE} alone: {sorted(answered)} had answered")


def test_a_run_whose_coordinator_lost_its_power_in_a_round_goes_on_and_nothing_counts_twice(fleet: Fleet) -> None:
    before = rounds_judged(fleet)
    try:
        killed = lose_power_in_round_two(fleet)
    finally:
        fleet.lab.thaw(LATE)
        power(fleet, "start")
    for device in OTHERS:
        assert [killed, 2] in told(fleet, device, layout.USER_APP, CHARGES), f"{device} paid for the round that was lost"

    until(lambda: last_object(fleet.edgefl("status", "--json")).get("run_status") == "failed", "the run's death to be seen")
    resumed = fleet.edgefl("run", "--resume", "--json")
    assert resumed.returncode == 0, resumed.stdout[-3000:] + resumed.stderr

    said = last_object(fleet.edgefl("rounds", "--json"))
    assert said["run"]["resumes"] == killed
    assert [(row["number"], row["state"]) for row in said["rounds"]] == [(number, "finished") for number in range(1, ROUNDS + 1)]
    assert sorted(said["rounds"][-1]["participants"]) == sorted([*OTHERS, LATE])
    for device in [*OTHERS, LATE]:
        charges = [round_ for run, round_ in told(fleet, device, layout.USER_APP, CHARGES) if run == killed]
        assert charges == list(range(1, ROUNDS + 1)), f"{device} paid for each round once"
    assert rounds_judged(fleet) == {device: before.get(device, 0) + ROUNDS for device in [*OTHERS, LATE]}
    names = [name for name, _ in told(fleet, "coordinator", layout.USER_SERVER, VERSIONS)]
    again = said["run"]["id"]
    assert names[-4:] == [f"{killed}/0", f"{killed}/1", f"{again}/2", f"{again}/3"]
