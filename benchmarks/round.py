"""What a round costs beyond training: an empty round of edgefl's against Flower's default path, in the same run.

Both train nothing on the same model with as many SuperNodes on this machine. Flower's path is its own: `flower-superlink` and
`flower-supernode` as they are, FedAvg, a fresh ClientApp process per message that imports torch as any torch app does, TLS
without client certificates. edgefl's path goes through the gate with mutual TLS where haproxy is installed.

    python benchmarks/round.py [--rounds 5] [--nodes 4] [--json]

The last line with --json is one object: `empty_round_ratio` (goal: at most 0.6), `cpu_per_message_ratio` (goal: at most 0.3, of
the devices' processes), both sides' figures, and where edgefl's round goes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from processes import family_cpu_s

from edgefl.federation.loopback import Loopback, certify
from edgefl.federation.ports import reserve_port
from edgefl.pki.authority import Authority
from edgefl.site.model import Site

TASK = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset
from edgefl.federation.task import Datasets
PARAMETERS = {}
METRICS = ("loss",)
def dataset(directory, parameters):
    records = TensorDataset(torch.zeros(64, 784), torch.zeros(64, dtype=torch.int64))
    return Datasets(records, records)
def model(parameters):
    return nn.Sequential(nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 10))
def train(model, batches, optimizer, loss, parameters):
    return {"loss": 0.0}
def evaluate(model, batches, parameters):
    return {"loss": 0.0, "accuracy": 0.0}
"""

APP = """
import json, os, time
import torch
from torch import nn
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

def net():
    return nn.Sequential(nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 10))

app = ClientApp()

@app.train()
def train(message, context):
    arrays = message.content["arrays"].to_torch_state_dict()
    metrics = MetricRecord({"train_loss": 0.0, "num-examples": 64})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

@app.evaluate()
def evaluate(message, context):
    message.content["arrays"].to_torch_state_dict()
    return Message(RecordDict({"metrics": MetricRecord({"eval_loss": 0.0, "num-examples": 64})}), reply_to=message)

class Timed(FedAvg):
    def configure_train(self, server_round, *arguments):
        with open(os.environ["BENCH_TIMES"], "a") as file:
            file.write(f"{time.time()}\\n")
        return super().configure_train(server_round, *arguments)

server = ServerApp()

@server.main()
def main(grid: Grid, context: Context):
    nodes, rounds = int(context.run_config["nodes"]), int(context.run_config["rounds"])
    strategy = Timed(min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes)
    strategy.start(grid=grid, initial_arrays=ArrayRecord(net().state_dict()), num_rounds=rounds)
    with open(os.environ["BENCH_TIMES"], "a") as file:
        file.write(f"{time.time()}\\n")
"""

PROJECT = """
[project]
name = "empty"
version = "1.0.0"
description = "an empty round"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "empty:server"
clientapp = "empty:app"
[tool.flwr.app.config]
nodes = 0
rounds = 0
"""


def wait_until(what: str, holds: Callable[[], bool], limit_s: float = 600.0) -> None:
    """Wait for a condition; an error when it does not come."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"waited {limit_s:g} s until {what}")
        time.sleep(0.1)


def figures(rounds_s: list[float], cpu: float, messages: int) -> dict[str, Any]:
    """One path's figures; the first round, which also warms up, is left out of the median."""
    usual = statistics.median(rounds_s[1:] or rounds_s)
    return {
        "round_s": round(usual, 3),
        "rounds_s": [round(seconds, 2) for seconds in rounds_s],
        "cpu_per_message_s": round(cpu / messages, 3),
        "messages": messages,
    }


def flower(folder: Path, nodes: int, rounds: int) -> dict[str, Any]:
    """Flower's default path."""
    app, home, times = folder / "empty", folder / "home", folder / "times"
    for directory in (app, home):
        directory.mkdir(parents=True)
    (app / "pyproject.toml").write_text(PROJECT)
    (app / "empty.py").write_text(APP)
    times.touch()
    held = ExitStack()
    port = reserve_port(held)
    tls = prepare_tls(folder)
    (home / "config.toml").write_text(f'[superlink.bench]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{tls}/ca.crt"\n')
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "BENCH_TIMES": str(times),
    }
    log = (folder / "flower.log").open("wb")

    def start(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=app)

    certificates = [
        "--ssl-certfile",
        f"{tls}/superlink.crt",
        "--ssl-keyfile",
        f"{tls}/superlink.key",
        "--ssl-ca-certfile",
        f"{tls}/ca.crt",
    ]
    link = start(
        "flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation", *certificates
    )
    processes = [link]
    try:
        wait_until("the SuperLink listens", lambda: "Uvicorn running" in (folder / "flower.log").read_text(errors="replace"))
        for _ in range(nodes):
            own = ["--superlink", f"127.0.0.1:{port}", "--root-certificates", f"{tls}/ca.crt", "--port", str(reserve_port(held))]
            processes.append(start("flower-supernode", *own))
        wait_until(
            "the SuperNodes are there", lambda: (folder / "flower.log").read_text(errors="replace").count("SuperNode ID") == nodes
        )
        devices = [process.pid for process in processes[1:]]
        before = family_cpu_s(devices)
        config = f"nodes={nodes} rounds={rounds}"
        subprocess.run(["flwr", "run", str(app), "bench", "-c", config], env=environment, check=True, stdout=log, stderr=log)
        wait_until("the rounds are over", lambda: len(times.read_text().split()) == rounds + 1)
        stamps = [float(stamp) for stamp in times.read_text().split()]
        used = family_cpu_s(devices) - before
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)
        log.close()
        held.close()
    return figures([b - a for a, b in itertools.pairwise(stamps)], used, 2 * nodes * rounds)


def prepare_tls(folder: Path) -> Path:
    """A certificate for the SuperLink; the folder that it lies in."""
    authority = Authority.open(folder / "operator", site=Site.model_validate({"name": "bench", "devices": [{"name": "edge-1"}]}))
    (folder / "ca.crt").write_bytes(authority.bundle())
    certify(folder, "superlink", "superlink", "coordinator", authority)
    return folder


def edgefl(folder: Path, nodes: int, rounds: int) -> dict[str, Any]:
    """Our path, through the gate where there is one."""
    folder.mkdir()
    (folder / "task.py").write_text(TASK)
    names = [f"edge-{number}" for number in range(1, nodes + 1)]
    site = Site.model_validate({
        "name": "bench",
        "devices": [{"name": name} for name in names],
        "task": {"module": "./task.py"},
        "run": {"rounds": rounds, "quorum": 1.0},
        "privacy": {"mode": "none"},
        "aggregation": {"rule": "mean", "byzantine": 0},
    })  # fmt: skip
    site._root = folder
    with_gate = shutil.which("haproxy") is not None
    with Loopback(folder / "loop", site, dict.fromkeys(names, folder), use_gate=with_gate) as fed:
        devices = [process.pid for service, process in fed.processes.items() if "/" in service]
        before = family_cpu_s(devices)
        run = fed.start_run()
        outcome = fed.finish(run, 600)
        used = family_cpu_s(devices) - before
        events = fed.events(run)
    if outcome.outcome != "completed":
        raise SystemExit(f"edgefl's run {outcome.outcome}: {outcome.details}")
    times = [
        datetime.fromisoformat(event["at"]).timestamp()
        for event in events
        if event["body"]["type"] in {"round_started", "run_finished"}
    ]
    stages = [event["body"]["seconds"] for event in events if event["body"]["type"] == "round_finished"]
    found = figures([b - a for a, b in itertools.pairwise(times)], used, 2 * nodes * rounds)
    found["stages_s"] = {
        name: round(float(np.median([seconds[name] for seconds in stages[1:] or stages])), 4) for name in stages[0]
    }
    found["gate"] = with_gate
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="one object as the last line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgefl-bench-") as folder:
        theirs = flower(Path(folder) / "flower", options.nodes, options.rounds)
        ours = edgefl(Path(folder) / "edgefl", options.nodes, options.rounds)
    result = {
        "empty_round_ratio": round(ours["round_s"] / theirs["round_s"], 3),
        "cpu_per_message_ratio": round(ours["cpu_per_message_s"] / theirs["cpu_per_message_s"], 3),
        "nodes": options.nodes,
        "edgefl": ours,
        "flower": theirs,
    }
    for name, figure in result.items():
        print(f"{name:24} {figure}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
