"""A run whose ServerApp dies, or whose coordinator loses its power, goes on from its last whole round: nothing counts twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgefl import layout
from edgefl.errors import ExitCode
from edgefl.events.schema import Event, FlagRaised, RoundFinished, UpdateScored
from edgefl.operations.remember import copy_of
from edgefl.site import load

from .conftest import Fleet, edgefl, in_background, last_object, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

ROUNDS = 3
LATE = "edge-03"
"""Slow, and kept from answering in the round that is lost, which is so under way for as long as the test needs."""
OTHERS = ["edge-01", "edge-02"]
DEVICES = [*OTHERS, LATE]
SITE = """\
name: resume
infrastructure: {module: lab}
devices:
  - {name: edge-01, data: data/edge-01}
  - {name: edge-02, data: data/edge-02}
  - {name: edge-03, data: data/edge-03, limits: {cpu: 0.3}}
task: {module: edgefl.federation.tasks.images, parameters: {local_epochs: 12}}
run: {rounds: 3, quorum: 1.0}
privacy: {epsilon_limit: 30.0, epsilon_per_run: 4.0}
compression: {mode: top-k, keep: 0.05}
"""
PYTHON = ("env", "PYTHONPATH=/opt/edgefl/current", "/opt/edgefl/venv/bin/python", "-c")
PAID = f"""
import json
from edgefl.federation.privacy.ledger import Ledger
from pathlib import Path
from safetensors import safe_open
with safe_open("{layout.FEEDBACK}", "numpy") as left:
    feedback = left.metadata()
charges = [[charge.run, charge.round] for charge in Ledger(Path("{layout.LEDGER}")).charges()]
print(json.dumps({{"charges": charges, "feedback": feedback}}))
"""
JUDGED = f"""
import json
from edgefl.federation.checkpoint import Models
from pathlib import Path
versions = Models(Path("{layout.MODELS}")).versions()
print(json.dumps({{device: standing["rounds"] for device, standing in versions[-1].reputation.items()}} if versions else {{}}))
"""
SERVERAPP = """
import subprocess
from pathlib import Path
def child(pid):
    [found] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return found
asked = ["systemctl", "show", "--property=MainPID", "--value", "edgefl-superexec"]
executor = subprocess.check_output(asked, text=True).strip()
print(child(child(executor)))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A coordinator and three devices with a few images each, provisioned."""
    directory: Path = tmp_path_factory.mktemp("resume")
    (directory / "site.yaml").write_text(SITE)
    make = [sys.executable, "-m", "edgefl.lab.data", "--task", "images", "--devices", "3", "--records", "600"]
    subprocess.run([*make, "--out", str(directory / "data")], check=True, capture_output=True)
    try:
        said = edgefl("up", "--site", str(directory), "--json")
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
        yield Fleet(directory)
    finally:
        gone = edgefl("down", "--site", str(directory), "--yes", "--json")
    assert gone.returncode == 0, gone.stdout[-3000:] + gone.stderr


def told(site: Fleet, host: str, user: str, program: str) -> Any:
    """What edgefl's own code on a host reads there, as the service's user."""
    done = site.on(host, "runuser", "-u", user, "--", *PYTHON, program)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def serverapp_dies(site: Fleet) -> None:
    found = site.on("coordinator", "python3", "-c", SERVERAPP)
    assert found.returncode == 0, found.stderr
    assert site.on("coordinator", "kill", "-KILL", found.stdout.strip()).returncode == 0


def power_fails(site: Fleet) -> None:
    """And comes back."""
    for action in ("kill", "start"):
        done = edgefl("lab", "--dir", str(site.lab.root), action, "coordinator")
        assert done.returncode == 0, done.stderr
    until(
        lambda: site.edgefl("status", "--json").returncode != ExitCode.MONITOR_UNREACHABLE,
        "the coordinator's services to be back",
    )


def cut_short(site: Fleet, dies: Callable[[Fleet], None]) -> str:
    """Start a run that dies when all but one device have trained and answered in its second round; its id."""
    answered: set[str] = set()
    with in_background("run", "--site", str(site.directory), "--json") as going:
        assert going.stdout
        run = str(json.loads(going.stdout.readline())["detail"]["run"])  # nothing died before: no warning comes first
        try:
            for line in going.stdout:
                said = json.loads(line)
                if said["type"] == "finished" and said["subject"] == "round 1":
                    site.lab.freeze(LATE)
                if said["what"].startswith("round 2 update"):
                    answered.add(said["subject"])
                if answered == set(OTHERS):
                    dies(site)
                    return run
        finally:
            site.lab.thaw(LATE)
    raise AssertionError(f"round 2 never waited for {LATE} alone: {sorted(answered)} had answered")


def journal(site: Fleet, runs: set[str]) -> list[Event]:
    """The coordinator's events of these runs, each hash of it checked."""
    verified = edgefl("audit", "log", "--site", str(site.directory), "--verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    return [event for event in copy_of(load(site.directory)).events() if event.run in runs]


@pytest.mark.parametrize("dies", [serverapp_dies, power_fails])
def test_a_run_that_died_in_a_round_goes_on_and_nothing_counts_twice(site: Fleet, dies: Callable[[Fleet], None]) -> None:
    before = told(site, "coordinator", layout.USER_SERVER, JUDGED)
    died = cut_short(site, dies)
    for device in OTHERS:
        paid = told(site, device, layout.USER_APP, PAID)
        assert [died, 2] in paid["charges"], f"{device} paid for the round that was lost"
    resumed = site.edgefl("run", "--resume", "--json")
    assert resumed.returncode == 0, resumed.stdout[-3000:] + resumed.stderr
    again = last_object(resumed)["run"]

    said = last_object(site.edgefl("rounds", "--json"))
    assert (said["run"]["id"], said["run"]["resumes"], said["runs"][-1]["status"]) == (again, died, "failed")
    assert [(row["number"], row["state"]) for row in said["rounds"]] == [(number, "finished") for number in range(1, ROUNDS + 1)]
    assert all(sorted(row["participants"]) == DEVICES for row in said["rounds"])
    models = last_object(site.edgefl("models", "list", "--json"))["models"]
    models = [row for row in models if row["run"] in {died, again}]
    assert [(row["name"], row["parent"]) for row in models] == [
        (f"{died}/0", ""), (f"{died}/1", f"{died}/0"), (f"{again}/2", f"{died}/1"), (f"{again}/3", f"{again}/2")
    ]  # fmt: skip
    shown = last_object(site.edgefl("models", "show", f"{again}/3", "--json"))
    assert shown["lineage"]["journal"]["agrees"], shown

    events = journal(site, {died, again})
    finished = [(event.run, event.round) for event in events if isinstance(event.body, RoundFinished)]
    assert finished == [(died, 1), (again, 2), (again, 3)]
    scored = [(event.round, event.body.device) for event in events if isinstance(event.body, UpdateScored)]
    assert sorted(scored) == [(round_, device) for round_ in range(1, ROUNDS + 1) for device in DEVICES]
    assert not [event for event in events if isinstance(event.body, FlagRaised)], "the same answer again is no copy"
    for device in DEVICES:
        paid = told(site, device, layout.USER_APP, PAID)
        assert paid["feedback"] == {"training": died, "round": str(ROUNDS)}, "what it has still to send went on too"
        assert again not in {run for run, _ in paid["charges"]}
        assert [round_ for run, round_ in paid["charges"] if run == died] == list(range(1, ROUNDS + 1)), f"{device}'s rounds"
    judged = told(site, "coordinator", layout.USER_SERVER, JUDGED)
    assert judged == {device: before.get(device, 0) + ROUNDS for device in DEVICES}
