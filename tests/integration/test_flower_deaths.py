"""Runs whose SuperLink, training process or ServerApp is ended under them, and runs that go on from another."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from safetensors import safe_open

from edgefl.federation.checkpoint import Models
from edgefl.federation.loopback import descendants
from edgefl.federation.privacy.ledger import Ledger

from .conftest import NAMES, Made, bodies

pytestmark = pytest.mark.slow


def test_the_run_outlives_a_superlink_that_is_killed_and_a_training_process_too(federation: Made, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    fed = federation(environment={"edge-3": {"TEST_HOLD": str(hold)}}, run={"rounds": 3})
    hold.touch()
    run = fed.start_run()
    superexec = fed.processes["edge-3/superexec"]

    def training() -> list[int]:
        zygote = next(descendants(superexec.pid), None)
        return list(descendants(zygote)) if zygote else []

    fed.wait_until("edge-3 trains", lambda: bool(training()))
    fed.wait_until("the others have answered", lambda: len(bodies(fed.events(run), "update_received")) == 2)
    victim = training()[0]
    fed.kill("superlink")
    fed.start_superlink()
    os.kill(victim, signal.SIGKILL)
    hold.unlink()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    assert [(entry["round"], entry["device"]) for entry in bodies(events, "device_dropped")] == [(1, "edge-3")]
    finished = bodies(events, "round_finished")
    assert [entry["round"] for entry in finished] == [1, 2, 3]
    assert sorted(finished[-1]["participants"]) == NAMES, "the device is back after its process was killed"
    assert f"task process {victim} was ended by signal 9" in fed.log("edge-3/superexec")


def test_a_stopped_run_is_told_and_another_goes_on_from_its_last_model(federation: Made) -> None:
    fed = federation(run={"rounds": 200})
    run = fed.start_run()
    fed.wait_until("two rounds are over", lambda: len(bodies(fed.events(run), "round_finished")) >= 2)
    with fed.control() as control:
        assert control.stop_run(run)
    assert fed.finish(run).outcome == "stopped"
    fed.wait_until("the journal says so", lambda: bool(bodies(fed.events(run), "run_finished")))
    assert bodies(fed.events(run), "run_finished")[0]["status"] == "stopped"
    last = Models(fed.places("coordinator").models).last(str(run)).round

    resumed = fed.start_run(rounds=last + 1, options=json.dumps({"resume": str(run)}))
    assert fed.finish(resumed).outcome == "completed"
    assert [entry["round"] for entry in bodies(fed.events(resumed), "round_finished")] == [last + 1]
    assert not fed.register(), "registering again changes nothing"


def test_a_run_whose_serverapp_was_killed_in_a_round_goes_on_and_nothing_counts_twice(federation: Made, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    fed = federation(
        environment={"edge-3": {"TEST_HOLD": str(hold)}},
        run={"rounds": 3, "quorum": 1.0},
        privacy={"mode": "dp-sgd", "epsilon_limit": 30.0, "epsilon_per_run": 4.0},
        compression={"mode": "top-k", "keep": 0.05},
    )
    guarded = {"rule": "guard"}
    whole = fed.start_run(options=json.dumps(guarded))
    assert fed.finish(whole).outcome == "completed", fed.log("superexec")

    def standings() -> dict[str, int]:
        found = Models(fed.places("coordinator").models).versions()[-1].reputation
        return {device: standing["rounds"] for device, standing in found.items()}

    assert standings() == dict.fromkeys(NAMES, 3)
    killed = fed.start_run(options=json.dumps(guarded))
    fed.wait_until(
        "edge-3's first answer",
        lambda: any(entry["device"] == "edge-3" for entry in bodies(fed.events(killed), "update_received")),
    )
    hold.touch()

    def waiting_for_one() -> bool:
        """Two devices have answered in the round under way, and the third one trains."""
        events = fed.events(killed)
        under_way = len(bodies(events, "round_started"))
        answered = [entry["device"] for entry in bodies(events, "update_received") if entry["round"] == under_way]
        return under_way > 1 and sorted(answered) == ["edge-1", "edge-2"]

    fed.wait_until("a round waits for edge-3", waiting_for_one)
    zygote = next(descendants(fed.processes["superexec"].pid))
    serverapp = next(descendants(zygote))
    os.kill(serverapp, signal.SIGKILL)
    hold.unlink()
    assert fed.finish(killed).outcome == "failed"
    done = [entry["round"] for entry in bodies(fed.events(killed), "round_finished")]

    resumed = fed.start_run(options=json.dumps({"resume": str(killed)}))
    assert fed.finish(resumed).outcome == "completed", fed.log("superexec")
    assert bodies(fed.events(resumed), "run_started")[0]["resumes"] == str(killed)
    rounds = [entry["round"] for entry in bodies(fed.events(resumed), "round_finished")]
    assert done + rounds == [entry["round"] for entry in bodies(fed.events(whole), "round_finished")] == [1, 2, 3]
    for device in NAMES:
        charges = [(charge.run, charge.round) for charge in Ledger(fed.places(device).ledger).charges()]
        assert charges == [(str(run), round_) for run in (whole, killed) for round_ in (1, 2, 3)], device
        with safe_open(fed.places(device).feedback, "numpy") as left:
            assert left.metadata() == {"training": str(killed), "round": "3"}, "what it has still to send went on too"
    assert standings() == dict.fromkeys(NAMES, 6)
    final = bodies(fed.events(resumed), "round_finished")[-1]
    assert sorted(final["participants"]) == NAMES
    assert final["parent"] == f"{resumed if len(rounds) > 1 else killed}/2"
