"""Whole runs on this machine: every service is the real one, as a plain process; only the hosts are folders."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgefl.federation.checkpoint import Models
from edgefl.federation.loopback import Loopback, descendants
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.release import DIRECTORY
from edgefl.site.model import Site

pytestmark = pytest.mark.slow

NAMES = ["edge-1", "edge-2", "edge-3"]

TASK = '''
"""Ten numbers, two kinds: small enough that a round is over in a second."""
import os
import time
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset
from edgefl.federation.task import Datasets

PARAMETERS = {"learning_rate": 0.5, "batch_size": 32, "local_epochs": 1.0}
METRICS = ("loss",)

def dataset(directory, parameters):
    with np.load(directory / "records.npz") as file:
        x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
    return Datasets(TensorDataset(x[:-40], y[:-40]), TensorDataset(x[-40:], y[-40:]))

def model(parameters):
    return nn.Linear(10, 2)

def train(model, batches, optimizer, loss, parameters):
    while os.path.exists(os.environ.get("TEST_HOLD", "/nowhere")):
        time.sleep(0.05)
    total = count = 0
    for x, y in batches:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        total, count = total + value.item(), count + 1
    return {"loss": total / max(count, 1)}

def evaluate(model, batches, parameters):
    right = loss = seen = 0
    for x, y in batches:
        scores = model(x)
        right += int((scores.argmax(1) == y).sum())
        loss += float(nn.functional.cross_entropy(scores, y, reduction="sum"))
        seen += len(y)
    return {"loss": loss / seen, "accuracy": right / seen}
'''

HOSTILE = '''
"""Preloaded in the warm executor of a device that somebody took over: each round another lie."""
import dataclasses
import numpy as np
from edgefl.federation import client

honest = client.train_locally

def train_locally(*arguments, **options):
    update = honest(*arguments, **options)
    arrays = dict(update.arrays)
    name = sorted(arrays)[0]
    round_ = options["round"]
    if round_ == 1:
        arrays[name] = np.full_like(arrays[name], np.nan)
    elif round_ == 2:
        arrays[name] = np.zeros((7, 7), np.float32)
    elif round_ == 3:
        return dataclasses.replace(update, metrics={"other": 1.0})
    elif round_ == 4:
        return dataclasses.replace(update, samples=10**12)
    return dataclasses.replace(update, arrays=arrays)

client.train_locally = train_locally
'''

Made = Callable[..., Loopback]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    generator, direction = np.random.default_rng(3), np.random.default_rng(0).normal(size=10)
    directories = {}
    for name in NAMES:
        directories[name] = tmp_path_factory.mktemp(name)
        x = generator.normal(size=(240, 10)).astype(np.float32)
        np.savez(directories[name] / "records.npz", x=x, y=(x @ direction > 0).astype(np.int64))
    return directories


def site(root: Path, **sections: dict[str, Any]) -> Site:
    (root / "task.py").write_text(TASK)
    made = Site.model_validate({
        "name": "loop",
        "devices": [{"name": name} for name in NAMES],
        "task": {"module": "./task.py"},
        "run": {"rounds": 3, "deadline_s": 240, "quorum": 0.6, **sections.get("run", {})},
        "privacy": {"mode": "none", **sections.get("privacy", {})},
        "aggregation": {"rule": "median", "byzantine": 0.3},
        "compression": sections.get("compression", {}),
    })  # fmt: skip
    made._root = root
    return made


def bodies(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [{**event["body"], "round": event["round"]} for event in events if event["body"]["type"] == kind]


@pytest.fixture
def federation(tmp_path: Path, data: dict[str, Path]) -> Iterator[Made]:
    """Make a federation; everything of it ends with the test."""
    made: list[Loopback] = []

    def make(
        *, use_gate: bool = False, environment: dict[str, dict[str, str]] | None = None, **sections: dict[str, Any]
    ) -> Loopback:
        found = Loopback(tmp_path / "loop", site(tmp_path, **sections), data, use_gate, environment or {})
        made.append(found)
        return found.__enter__()

    yield make
    for found in made:
        found.stop()


def connect(fed: Loopback, host: str | None, path: str) -> int:
    """POST to the gate with a host's certificate, or none; the status."""
    context = ssl.create_default_context(cafile=str(fed.places("edge-1").authority))
    if host:
        identity = fed.places(host).identity
        stem = "device" if host in NAMES else "gate"
        context.load_cert_chain(identity / f"{stem}.crt", identity / f"{stem}.key")
    connection = http.client.HTTPSConnection("127.0.0.1", fed.ports["gate"], timeout=10, context=context)
    connection.request("POST", path)
    return connection.getresponse().status


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed (apt-get install haproxy)")
def test_a_private_run_through_the_gate_is_told_in_full_by_the_journal(federation: Made) -> None:
    fed = federation(use_gate=True, privacy={"mode": "dp-sgd", "epsilon_limit": 4.05, "epsilon_per_run": 4.0})
    run = fed.start_run()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")

    events = fed.events(run)
    assert [event["body"]["type"] for event in events][:2] == ["run_started", "round_started"]
    assert bodies(events, "run_started")[0]["devices"] == NAMES
    finished = bodies(events, "round_finished")
    assert [entry["round"] for entry in finished] == [1, 2, 3]
    assert all(sorted(entry["participants"]) == NAMES and not entry["rejected"] for entry in finished)
    assert set(finished[0]["seconds"]) == {"send", "start", "train", "upload", "score", "aggregate", "evaluate"}
    assert finished[-1]["accuracy"] > 0.6
    assert len(bodies(events, "update_received")) == len(bodies(events, "update_scored")) == 9
    spent = [entry["spent"] for entry in bodies(events, "privacy_spent") if entry["device"] == "edge-1"]
    assert spent == sorted(spent)
    assert spent[-1] <= 4.01
    done = bodies(events, "run_finished")[0]
    assert done["status"] == "completed"
    models = Models(fed.places("coordinator").models)
    saved = models.last(str(run))
    assert (saved.round, saved.sha256, str(models.path(str(run), 3))) == (3, done["model_sha256"], done["model"])

    # What the gate lets through, with the same federation still up.
    assert connect(fed, "edge-1", "/v1/fleet/pull-messages") == 415, "it reached the SuperLink, which wants protobuf"
    for path in ("/v1/control/list-runs", "/v1/runtime/acquire-task", "/health", "/docs"):
        assert connect(fed, "edge-1", path) == 404
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(fed, None, "/v1/fleet/pull-messages")

    # A second run meets a budget that does not cover it: refused by the devices, said in the journal, ended in bounded time.
    second = fed.start_run()
    assert fed.finish(second).outcome == "failed"
    refused = bodies(fed.events(second), "privacy_refused")
    assert {entry["device"] for entry in refused} == set(NAMES)
    assert all(entry["spent"] + entry["cost"] > entry["limit"] for entry in refused)
    assert bodies(fed.events(second), "run_finished")[0]["status"] == "failed"


def test_a_device_that_lost_its_model_gets_it_whole_and_the_others_what_has_changed(federation: Made) -> None:
    fed = federation(compression={"mode": "quantised", "down": "quantised"}, run={"rounds": 4})
    lost = fed.places("edge-2").held
    run = fed.start_run()
    fed.wait_until("a round is over", lambda: bool(bodies(fed.events(run), "round_finished")), limit_s=900)
    lost.write_bytes(b"a disk that forgot")
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    finished = bodies(events, "round_finished")
    assert [sorted(entry["participants"]) for entry in finished] == [NAMES] * 4
    assert finished[-1]["accuracy"] > 0.6
    models = Models(fed.places("coordinator").models)
    model = models.arrays(models.last(str(run)))
    for name in NAMES:
        held = load_file(fed.places(name).held)
        assert all((held[key] == model[key]).all() for key in model), "devices hold the very model that was saved"


def test_a_device_that_lies_costs_its_own_update_and_never_the_round(federation: Made, tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    fed = federation(environment={"edge-2": {"EDGEFL_PRELOAD": "hostile", "PYTHONPATH": str(tmp_path)}}, run={"rounds": 5})
    run = fed.start_run()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    rejected = [(entry["round"], entry["device"], entry["reason"]) for entry in bodies(events, "update_rejected")]
    assert rejected == [(1, "edge-2", "not_finite"), (2, "edge-2", "shape"), (3, "edge-2", "metrics"), (4, "edge-2", "samples")]
    finished = bodies(events, "round_finished")
    assert [sorted(entry["participants"]) for entry in finished] == [["edge-1", "edge-3"]] * 4 + [NAMES]
    assert finished[-1]["accuracy"] > 0.6


def test_another_app_than_the_hosts_is_not_executed(federation: Made) -> None:
    fed = federation()
    for device in NAMES:
        places = fed.places(device)
        places.host.write_text(json.dumps({**json.loads(places.host.read_text()), "fab_sha256": "0" * 64}))
    run = fed.start_run()
    assert fed.finish(run).outcome == "failed"
    dropped = bodies(fed.events(run), "device_dropped")
    assert {entry["device"] for entry in dropped} == set(NAMES)
    assert all("refused to execute the app" in entry["reason"] for entry in dropped)
    assert not list(fed.places("edge-1").state.glob("app/apps/*")), "nothing of it was unpacked"

    # The coordinator's own executor holds to the same: a stranger's app is not run there either.
    places = fed.places("coordinator")
    places.host.write_text(json.dumps({**json.loads(places.host.read_text()), "fab_sha256": ""}))
    other = fed.start_run()
    assert "names no app to execute" in fed.finish(other).details
    assert fed.events(other) == []


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


def test_a_device_that_misses_the_deadline_costs_the_round_its_own_update_and_is_asked_again(
    federation: Made, tmp_path: Path
) -> None:
    hold, deadline_s = tmp_path / "hold", 25.0
    hold.touch()
    fed = federation(environment={"edge-3": {"TEST_HOLD": str(hold)}}, run={"rounds": 2, "deadline_s": deadline_s})
    run = fed.start_run()
    fed.wait_until("edge-3 is given up on", lambda: bool(bodies(fed.events(run), "device_dropped")))
    hold.unlink()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    (dropped,) = bodies(events, "device_dropped")
    assert (dropped["round"], dropped["device"]) == (1, "edge-3")
    assert dropped["reason"] in {"no reply within 25 s", "no reply came in time"}, "edgefl's clock and Flower's end together"
    first, second = bodies(events, "round_finished")
    assert (sorted(first["participants"]), first["dropped"]) == (["edge-1", "edge-2"], ["edge-3"])
    assert (sorted(second["participants"]), second["dropped"]) == (NAMES, [])
    late = [entry["round"] for entry in bodies(events, "update_received") if entry["device"] == "edge-3"]
    assert late == [2], "what came after the deadline counts nowhere"
    at = {event["body"]["type"]: datetime.fromisoformat(event["at"]) for event in events if event["round"] == 1}
    waited_s = (at["device_dropped"] - at["round_started"]).total_seconds()
    assert deadline_s - 1 < waited_s < deadline_s + 15


def test_asynchronously_a_slow_device_holds_nobody_back_and_its_late_update_still_counts(
    federation: Made, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    fed = federation(
        environment={"edge-3": {"TEST_HOLD": str(hold)}},
        run={"rounds": 200, "mode": "asynchronous", "max_staleness": 100, "quorum": 0.6},
    )
    run = fed.start_run()
    fed.wait_until("three rounds are over without the slow one", lambda: len(bodies(fed.events(run), "round_finished")) >= 3)
    before = fed.events(run)
    assert {entry["device"] for entry in bodies(before, "update_received")} == {"edge-1", "edge-2"}
    assert not bodies(before, "device_dropped")
    assert bodies(before, "round_finished")[-1]["accuracy"] is not None
    hold.unlink()
    late = "edge-3"
    fed.wait_until(
        "the slow one is part of a round",
        lambda: any(late in entry["participants"] for entry in bodies(fed.events(run), "round_finished")),
    )
    with fed.control() as control:
        assert control.stop_run(run)
    assert fed.finish(run).outcome == "stopped"
    events = fed.events(run)
    received = bodies(events, "update_received")
    first = next(entry for entry in received if entry["device"] == late)
    assert first["staleness"] >= 3
    assert {entry["staleness"] for entry in received if entry["device"] != late} <= {0, 1}
    per_round = [(entry["round"], entry["device"]) for entry in received]
    assert len(per_round) == len(set(per_round)), "speed gives nobody a second update in a round"
    assert [entry["round"] for entry in bodies(events, "round_finished")] == list(
        range(1, len(bodies(events, "round_finished")) + 1)
    )


def test_whole_devices_are_hidden_by_one_charge_a_round_at_the_coordinator(federation: Made) -> None:
    fed = federation(
        run={"rounds": 3, "mode": "asynchronous", "quorum": 0.6},
        privacy={"mode": "client", "epsilon_limit": 8.0, "epsilon_per_run": 4.0, "clipping": "adaptive"},
    )
    run = fed.start_run(options=json.dumps({"rule": "mean"}))
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    spent = bodies(events, "model_privacy_spent")
    assert [entry["round"] for entry in spent] == [entry["round"] for entry in bodies(events, "round_finished")] == [1, 2, 3]
    assert [entry["clip"] for entry in spent[1:]] == [entry["next_clip"] for entry in spent[:-1]]
    assert 3.9 < spent[-1]["spent"] <= 4.0
    assert not bodies(events, "privacy_spent"), "no device spends a budget of its own"
    charges = Ledger(fed.places("coordinator").models / DIRECTORY / "ledger.db").charges()
    assert [(charge.run, charge.round) for charge in charges] == [(str(run), 1), (str(run), 2), (str(run), 3)]
    refused = fed.start_run(options=json.dumps({"rule": "median"}))
    assert fed.finish(refused).outcome == "failed"
    assert "rule: mean with privacy.mode: client" in bodies(fed.events(refused), "run_finished")[0]["reason"]


def test_a_run_whose_serverapp_was_killed_in_a_round_goes_on_and_nothing_counts_twice(federation: Made, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    fed = federation(
        environment={"edge-3": {"TEST_HOLD": str(hold)}},
        run={"rounds": 3, "quorum": 1.0},
        privacy={"mode": "dp-sgd", "epsilon_limit": 30.0, "epsilon_per_run": 4.0},
    )
    guarded = {"rule": "guard"}
    whole = fed.start_run(options=json.dumps(guarded))
    assert fed.finish(whole).outcome == "completed", fed.log("superexec")

    def standings() -> dict[str, int]:
        found = Models(fed.places("coordinator").models).versions()[-1].reputation
        return {device: standing["rounds"] for device, standing in found.items()}

    assert standings() == dict.fromkeys(NAMES, 3)
    killed = fed.start_run(options=json.dumps(guarded))
    fed.wait_until("a round is over", lambda: bool(bodies(fed.events(killed), "round_finished")))
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
    assert standings() == dict.fromkeys(NAMES, 6)
    final = bodies(fed.events(resumed), "round_finished")[-1]
    assert sorted(final["participants"]) == NAMES
    assert final["parent"] == f"{resumed if len(rounds) > 1 else killed}/2"
