"""`up` in the middle of a run: what leaves the run alone is done, what would end it is refused, and done when it is told to."""

from __future__ import annotations

import pytest

from .conftest import DEVICES, Fleet, in_background, last_object, life, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]
DEADLINE = ("deadline_s: 60", "deadline_s: 61")
"""It stands in host.json, with which the executors of runs start."""


def change(fleet: Fleet, before: str, after: str) -> None:
    place = fleet.directory / "site.yaml"
    said = place.read_text()
    assert before in said
    place.write_text(said.replace(before, after))


def starts(fleet: Fleet) -> dict[str, str]:
    """When what a run lives in was started, and what devices have."""
    shown = ["systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", "edgefl-superexec"]
    return {host: fleet.on(host, *shown).stdout.strip() for host in ("coordinator", *DEVICES)}


def going(fleet: Fleet) -> tuple[str, str]:
    """The last run, and how it stands."""
    said = last_object(fleet.edgefl("status", "--json"))
    return said["run"], said["run_status"]


def test_what_leaves_the_run_alone_is_done_and_no_round_is_lost(fleet: Fleet) -> None:
    change(fleet, "upgrade: {rounds: 1", "upgrade: {rounds: 2")
    with fleet.training():
        with fleet.rounds() as seen:
            done = fleet.edgefl("up", "--json")
        assert done.returncode == 0, done.stdout[-3000:]
        run, status = going(fleet)
        assert status == "running"
        assert f"run {run} goes on: nothing that it lives in starts anew" in done.stdout
    assert life.uncounted(seen) == []


def test_what_would_end_the_run_is_refused_with_the_reason(fleet: Fleet) -> None:
    before = starts(fleet)
    change(fleet, *DEADLINE)
    try:
        with fleet.training():
            run = going(fleet)
            planned = fleet.edgefl("plan", "--json")
            assert planned.returncode == 0, planned.stdout[-3000:]
            assert "would end: edgefl-superexec starts anew" in planned.stdout
            with fleet.rounds() as seen:
                refused = fleet.edgefl("up", "--json")
            assert refused.returncode == 12, refused.stdout[-3000:]
            assert f"run {run[0]} is going, and would end: edgefl-superexec starts anew" in last_object(refused)["what"]
            assert going(fleet) == run
        assert life.uncounted(seen) == []
        assert starts(fleet) == before, "nothing was touched"
    finally:
        change(fleet, *reversed(DEADLINE))


def test_told_to_it_is_done_and_the_run_ends(fleet: Fleet) -> None:
    before, last = starts(fleet), going(fleet)
    change(fleet, *DEADLINE)
    try:
        with in_background("run", "--site", str(fleet.directory), "--rounds", "200", "--json") as run:
            until(lambda: going(fleet) != last and going(fleet)[1] == "running", "a run to go on")
            done = fleet.edgefl("up", "--now", "--json")
            assert done.returncode == 0, done.stdout[-3000:]
            assert run.wait(120) != 0
        assert going(fleet)[1] == "failed"
        after = starts(fleet)
        assert [host for host in before if after[host] == before[host]] == []
    finally:
        change(fleet, *reversed(DEADLINE))
        assert fleet.edgefl("up", "--json").returncode == 0
