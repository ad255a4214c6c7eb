"""Whole runs on this machine, over Flower's own services."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
from datetime import datetime
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from edgefl.federation.checkpoint import Models
from edgefl.federation.loopback import Loopback
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.release import DIRECTORY

from .conftest import NAMES, Made, bodies, federations, site_of

pytestmark = pytest.mark.slow

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


def is_connected_to(port: int) -> bool:
    """Whether somebody has a connection to this port of the loopback (proc(5): state 01 is an established one)."""
    connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(peer.endswith(f":{port:04X}") and state == "01" for _, _, peer, state, *_ in connections)


def test_services_that_are_asked_to_end_end_well_and_do_not_wait_for_each_other(tmp_path: Path, trio: dict[str, Path]) -> None:
    with federations(tmp_path, trio) as make:
        fed = make(site_of(tmp_path, NAMES[:1], {}))
        fed.wait_until("the executor's first question", lambda: is_connected_to(fed.ports["edge-1"]))
        for service in ("edge-1/supernode", "edge-1/superexec"):  # in this order the executor's question is still kept
            asked = fed.processes[service]
            asked.terminate()
            assert asked.wait(timeout=60) == 0, fed.log(service)
        assert "did not stop within" not in fed.log("edge-1/supernode")


def test_a_device_that_misses_the_deadline_costs_the_round_its_own_update_and_is_asked_again(
    federation: Made, tmp_path: Path
) -> None:
    hold, deadline_s = tmp_path / "hold", 40.0
    hold.touch()
    fed = federation(environment={"edge-3": {"TEST_HOLD": str(hold)}}, run={"rounds": 2, "deadline_s": deadline_s})
    run = fed.start_run()
    fed.wait_until("edge-3 is given up on", lambda: bool(bodies(fed.events(run), "device_dropped")))
    hold.unlink()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    (dropped,) = bodies(events, "device_dropped")
    assert (dropped["round"], dropped["device"]) == (1, "edge-3")
    assert dropped["reason"] in {"no reply within 40 s", "no reply came in time"}, "edgefl's clock and Flower's end together"
    first, second = bodies(events, "round_finished")
    assert (sorted(first["participants"]), first["dropped"]) == (["edge-1", "edge-2"], ["edge-3"])
    assert (sorted(second["participants"]), second["dropped"]) == (NAMES, [])
    late = [entry["round"] for entry in bodies(events, "update_received") if entry["device"] == "edge-3"]
    assert late == [2], "what came after the deadline counts nowhere"
    at = {event["body"]["type"]: datetime.fromisoformat(event["at"]) for event in events if event["round"] == 1}
    waited_s = (at["device_dropped"] - at["round_started"]).total_seconds()
    assert deadline_s - 1 < waited_s < deadline_s + 60


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
    assert {entry["staleness"] for entry in bodies(before, "update_received")} <= {0, 1}
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
