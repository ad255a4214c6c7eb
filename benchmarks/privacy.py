"""What privacy costs: differential privacy in time, its audit in time, secure sums in bytes. The last line is one JSON object.

`dp_overhead`: one device's round with DP-SGD over the same round with plain SGD; the largest of the ratios of the models below,
each the median over pairs of rounds with as many steps over as many records in expectation, timed in turn in CPU seconds, so that
other work on the machine weighs on both. The ledger's accounting is part of the round. `client_ms`: CPU time that the coordinator
adds to a round of `privacy.mode: client`, of 100 devices and a million values: clipping, noise, the step on the disk, the charge.
`audit_seconds`: how long the membership audit at five levels takes; `audit_cpu_seconds`: the same in CPU seconds, which other
work on the machine does not stretch (both by benchmarks/audit.py). `mask_wire_ratio`: a masked update's message over a plain
one's (benchmarks/masks.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import audit  # beside this file
import masks
import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import nn

from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.local import initial_arrays, train_locally
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import PrivacyTerms
from edgefl.federation.privacy.release import ClientPrivacy
from edgefl.federation.rounds import Plan
from edgefl.federation.task import Task, load_task

RECORDS = 4000
PARAMETERS = {"learning_rate": 0.1, "batch_size": 128, "local_epochs": 1.0}
TERMS = PrivacyTerms(epsilon_limit=30.0, epsilon_per_run=4.0, delta=1e-5, max_grad_norm=1.0, rounds=20)


def perceptron(_: Any) -> nn.Module:
    """238,510 weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))


def tasks() -> dict[str, Task]:
    """The shipped images task with its two models, and one as wide as those of the literature."""
    images = load_task("edgefl.federation.tasks.images")

    def shipped(kind: str) -> Callable[[Any], nn.Module]:
        return lambda parameters: images.model({**parameters, "model": kind})

    return {
        "mlp": replace(images, model=shipped("mlp")),
        "cnn": replace(images, model=shipped("cnn")),
        "perceptron": replace(images, model=perceptron),
    }


def overhead(task: Task, directory: Path, ledger: Ledger, rounds: int) -> float:
    """The median ratio of CPU seconds, private over plain."""
    start = initial_arrays(task, PARAMETERS, 7)

    def seconds(privacy: PrivacyTerms | None, number: int) -> float:
        return train_locally(task, start, PARAMETERS, directory, privacy, ledger, "run", number, 7).cpu_s

    for privacy in (None, TERMS):
        seconds(privacy, 0)  # imports, caches and the solving of sigma are not the round's
    return median(seconds(TERMS, number) / seconds(None, number) for number in range(1, rounds + 1))


def overheads(rounds: int) -> dict[str, float]:
    """DP-SGD's ratio by model."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="edgefl-privacy-") as root:
        data = Path(root) / "data"
        data.mkdir()
        rng = np.random.default_rng(1)
        for part, count in (("train", RECORDS), ("test", 100)):
            images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            np.savez(data / f"{part}.npz", images=images, labels=rng.integers(0, 10, count))
        for name, task in tasks().items():
            found[name] = overhead(task, data, Ledger(Path(root) / name / "ledger.db"), rounds)
            print(f"{name:12} {found[name]:.2f} times plain SGD", file=sys.stderr, flush=True)
    return found


def client_ms(rounds: int = 5) -> float:
    """CPU milliseconds of the coordinator's part of a round, the median."""
    devices = [f"d-{number}" for number in range(100)]
    host = HostConfig.model_validate({
        "site": "s", "name": "c", "role": "coordinator", "coordinator": {"name": "c", "address": "192.0.2.1"}, "devices": devices,
        "privacy": {"mode": "client", "clipping": "adaptive"},
    })  # fmt: skip
    rng, took = np.random.default_rng(1), []
    with tempfile.TemporaryDirectory(prefix="edgefl-privacy-") as root:
        clients = ClientPrivacy.open(host, Plan("1", tuple(devices), 20, 1, 70, 1.0, 7, "mean", 0.0), Path(root))
        assert clients is not None
        for round_ in range(rounds + 1):
            deltas = rng.standard_normal((len(devices), 1_000_000), np.float32)
            began = time.process_time()
            clients.step(deltas, [1.0] * len(devices), round_)
            took.append(time.process_time() - began)
    return 1000 * median(took[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the last line, one JSON object")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of rounds for each model")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):  # OpenBLAS' threads would spin for as long as a round takes
        ratios = overheads(given.rounds)
    figures = {"dp_overhead": round(max(ratios.values()), 3)}
    figures |= {f"dp_overhead_{name}": round(ratio, 3) for name, ratio in ratios.items()}
    figures["client_ms"] = round(client_ms(), 1)
    audited = audit.audit()
    figures |= {name: audited[name] for name in ("audit_seconds", "audit_cpu_seconds")}
    figures["mask_wire_ratio"] = masks.figures()["mask_wire_ratio"]
    if not given.json:
        for name, value in figures.items():
            print(f"{name:24} {value:g}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
