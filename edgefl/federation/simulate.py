"""A whole federation in one process: the same local training, checks and rules as on hosts, without network, Flower or
identities.

For what must be run many times: the benchmarks' attacks, the demo's clean floor, a user's first try of a task
(`python -m edgefl.federation.simulate --help`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from edgefl.errors import EdgeflError
from edgefl.events.schema import DeviceJudged
from edgefl.federation.aggregation.policy import judge
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import Rule, build
from edgefl.federation.aggregation.scores import Score
from edgefl.federation.aggregation.validate import check_arrays, check_claims
from edgefl.federation.aggregation.vectors import Template
from edgefl.federation.compression.codec import decode
from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.local import LocalUpdate, evaluate_locally, initial_arrays, train_locally
from edgefl.federation.optimisers import Optimiser
from edgefl.federation.outline import Parameters, TaskInvalid
from edgefl.federation.personal import PersonalLayers
from edgefl.federation.privacy.clients import Clipping, client_plan
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import PrivacyRefused, PrivacyTerms
from edgefl.federation.task import Datasets, Task, load_task
from edgefl.lab.attacks import ATTACKS, COLLUSIONS, POISONS, Sent
from edgefl.site.model import Compression, Policy, Privacy, ServerOptimiser
from edgefl.site.modes import unbounded

RUN = "simulation"


@dataclass(frozen=True, slots=True)
class Adversary:
    """Who attacks, how (a name of ATTACKS, POISONS or COLLUSIONS in lab/attacks.py), and from which round on."""

    devices: frozenset[str]
    attack: str
    first_round: int = 1

    def __post_init__(self) -> None:
        if self.attack not in {**ATTACKS, **POISONS, **COLLUSIONS}:
            raise ValueError(f"there is no attack {self.attack!r}; one of {', '.join([*ATTACKS, *POISONS, *COLLUSIONS])}")


@dataclass(frozen=True, slots=True)
class Federation:
    """What is simulated. directories: device to its data. privacy: None trains without. rule: see aggregation.rules.build.

    personal: patterns of the layers that stay on each device. whole: privacy of whole devices (mode `client`) in place of
    `privacy`; it goes with the rule `mean`. policy: sets aside who is flagged again and again, at most `spare` devices at
    once; None asks all in every round.
    """

    task: Task
    parameters: Parameters
    directories: Mapping[str, Path]
    rule: Rule
    privacy: PrivacyTerms | None = None
    compression: Compression = field(default_factory=Compression)
    optimiser: ServerOptimiser = field(default_factory=ServerOptimiser)
    adversary: Adversary | None = None
    seed: int = 7
    quorum: int = 1
    personal: tuple[str, ...] = ()
    whole: Privacy | None = None
    policy: Policy | None = None
    spare: int = 0

    def __post_init__(self) -> None:
        if self.whole is not None and (problem := next(unbounded(self.rule.name, "none", "all"), None)):
            raise ValueError(f"{problem[1]}: {problem[2]}")


@dataclass(frozen=True, slots=True)
class Round:
    """One round's result. metrics: of the new global model on the honest devices' held-out records, by their number.

    arrays: the new global model. rejected: device to why its reply was no update. refused: device to why it did not train.
    spent: device to its epsilon so far. bytes_up: device to the bytes of its encoded update, where updates are compressed.
    judged: what the policy made of the devices.
    """

    number: int
    arrays: dict[str, NDArray[Any]]
    metrics: dict[str, float]
    scores: list[Score]
    rejected: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    judged: list[DeviceJudged] = field(default_factory=list)

    @property
    def flagged(self) -> set[str]:
        """Devices whose update was evidence against them."""
        return {score.device for score in self.scores if score.flagged}


@dataclass(frozen=True, slots=True)
class Memory:
    """What the coordinator takes from one round to the next."""

    reputation: Reputation
    optimiser: Optimiser
    clipping: Clipping | None = None


def simulate(federation: Federation, rounds: int, ledgers: Path | None = None) -> Iterator[Round]:
    """Run the federation, a round at a time. Deterministic for a seed without privacy; with it the noise is secret even here.

    ledgers: where the devices' ledgers (what compression left out, their own layers) are kept; a temporary place without it.
    Raises PrivacyRefused where the terms of privacy for whole devices are empty.
    """
    with contextlib.ExitStack() as stack:
        home = ledgers or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefl-ledgers-")))
        arrays = initial_arrays(federation.task, federation.parameters, federation.seed, federation.personal)
        memory = Memory(Reputation(), Optimiser(federation.optimiser), _clipping(federation, rounds))
        for number in range(1, rounds + 1):
            result, memory = _round(federation, number, arrays, memory, home)
            arrays = result.arrays
            yield result


def _round(
    federation: Federation, number: int, arrays: dict[str, NDArray[Any]], memory: Memory, ledgers: Path
) -> tuple[Round, Memory]:
    template = Template.of(arrays)
    result = Round(number, arrays, {}, [])
    replies: dict[str, Sent] = {}
    asked = memory.reputation.admitted(federation.directories)  # all of them where no policy set anyone aside
    for device, update in _trained(federation, asked, number, arrays, ledgers, refused=result.refused):
        replies[device] = Sent(update.arrays, update.samples, update.metrics)
        if update.privacy is not None:
            result.spent[device] = update.privacy.spent
    replies = _attacked(federation, number, arrays, replies)
    for device, sent in list(replies.items()):
        problem = check_claims(sent.samples, sent.metrics, federation.task.metrics) or check_arrays(sent.arrays, template)
        if problem is not None:
            result.rejected[device] = f"{problem.reason}: {problem.detail}"
            del replies[device]
    if len(replies) < max(1, federation.quorum):
        return replace(result, metrics=_measured(federation, arrays, ledgers)), memory
    deltas = template.deltas([sent.arrays for sent in replies.values()], arrays)
    if federation.compression.mode != "none":
        for row, device in zip(deltas, replies, strict=True):
            feedback = Feedback(ledgers / device / "feedback.safetensors")
            payload = feedback.compress(row, federation.compression, RUN, number)
            result.bytes_up[device] = len(payload)
            row[:] = decode(payload, template.size)
    counts = np.array([sent.samples for sent in replies.values()], np.int64)
    known = memory.reputation.known(list(federation.directories), len(replies), len(result.rejected))
    aggregate = federation.rule.aggregate(deltas, list(replies), counts, memory.reputation, known)
    step, clipping = (aggregate.delta, None) if memory.clipping is None else memory.clipping.aggregate(deltas)
    move, optimiser = memory.optimiser.step(step)
    moved = template.moved(arrays, move)
    reputation, judged = aggregate.reputation, list[DeviceJudged]()
    if federation.policy is not None:
        seen, took_part = reputation.malformed(result.rejected), [*replies, *result.rejected]
        reputation, judged = judge(seen, took_part, federation.directories, federation.policy, federation.spare)
    result = replace(result, arrays=moved, metrics=_measured(federation, moved, ledgers), scores=aggregate.scores, judged=judged)
    return result, Memory(reputation, optimiser, clipping)


def _clipping(federation: Federation, rounds: int) -> Clipping | None:
    whole, devices = federation.whole, len(federation.directories)
    if whole is None:
        return None
    return Clipping(whole.clip_norm, client_plan(whole, devices, rounds).sigma, devices, whole.clipping == "adaptive")


def _trained(
    federation: Federation,
    asked: Sequence[str],
    number: int,
    arrays: Mapping[str, NDArray[Any]],
    ledgers: Path,
    *,
    refused: dict[str, str],
) -> Iterator[tuple[str, LocalUpdate]]:
    adversary = federation.adversary
    for place, (device, directory) in enumerate(federation.directories.items()):
        if device not in asked:
            continue
        task = federation.task
        attacking = adversary is not None and device in adversary.devices and number >= adversary.first_round
        if attacking and adversary is not None and adversary.attack in POISONS:
            task = _poisoned(task, adversary.attack)
        ledger = Ledger(ledgers / device / "ledger.db") if federation.privacy is not None else None
        seed = federation.seed * 1000 + place
        try:
            yield (
                device,
                train_locally(
                    task,
                    arrays,
                    federation.parameters,
                    directory,
                    federation.privacy,
                    ledger,
                    RUN,
                    number,
                    seed,
                    personal=_personal(federation, ledgers, device),
                ),
            )
        except PrivacyRefused as refusal:
            refused[device] = refusal.what


def _attacked(
    federation: Federation, number: int, arrays: Mapping[str, NDArray[Any]], replies: dict[str, Sent]
) -> dict[str, Sent]:
    """What arrives, given what was trained."""
    adversary = federation.adversary
    if adversary is None or number < adversary.first_round:
        return replies
    rng = np.random.default_rng([federation.seed, number])
    colluders = [device for device in replies if device in adversary.devices]
    if adversary.attack in ATTACKS:
        attack = ATTACKS[adversary.attack]
        return {device: attack(sent, arrays, rng) if device in colluders else sent for device, sent in replies.items()}
    if adversary.attack in COLLUSIONS and 0 < len(colluders) < len(replies):
        template = Template.of(arrays)
        honest = template.deltas([sent.arrays for device, sent in replies.items() if device not in colluders], arrays)
        lies = COLLUSIONS[adversary.attack](honest, len(colluders), rng)
        forged = {
            device: replace(replies[device], arrays=template.moved(arrays, lie))
            for device, lie in zip(colluders, lies, strict=True)
        }
        return {device: forged.get(device, sent) for device, sent in replies.items()}
    return replies


def _poisoned(task: Task, attack: str) -> Task:
    def dataset(directory: Path, parameters: Parameters) -> Datasets:
        honest = task.dataset(directory, parameters)
        if not isinstance(honest.train, TensorDataset):
            raise TaskInvalid(f"only a task of tensors can be poisoned in simulation, and {task.ref} gives {type(honest.train)}")
        features, labels = (tensor.numpy() for tensor in honest.train.tensors)
        poisoned = POISONS[attack](features, labels)
        return Datasets(TensorDataset(*(torch.from_numpy(array) for array in poisoned)), honest.test)

    return replace(task, dataset=dataset)


def _personal(federation: Federation, ledgers: Path, device: str) -> PersonalLayers:
    return PersonalLayers(ledgers / device / "personal", federation.personal)


def _measured(federation: Federation, arrays: Mapping[str, NDArray[Any]], ledgers: Path) -> dict[str, float]:
    """The mean of each metric over the honest devices' held-out records."""
    adversaries = federation.adversary.devices if federation.adversary is not None else frozenset()
    measured = [
        evaluate_locally(federation.task, arrays, federation.parameters, directory, _personal(federation, ledgers, device))
        for device, directory in federation.directories.items()
        if device not in adversaries
    ]
    total = sum(count for _, count in measured)
    return {name: sum(metrics[name] * count for metrics, count in measured) / total for name in measured[0][0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """The program: one JSON object a round, then one of the whole."""
    parser = argparse.ArgumentParser(
        prog="python -m edgefl.federation.simulate", description="Train a task in one process, as a federation would."
    )
    parser.add_argument("--task", default="edgefl.federation.tasks.images", help="a Python module or a file")
    parser.add_argument("--data", type=Path, required=True, help="a directory with one directory per device")
    parser.add_argument("--parameters", type=json.loads, default={}, help='JSON, e.g. {"local_epochs": 1}')
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rule", default="guard")
    parser.add_argument("--byzantine", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epsilon-per-run", type=float, help="train with DP-SGD; without it there is no privacy")
    parser.add_argument("--epsilon-limit", type=float, default=float("inf"))
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--whole", type=json.loads, help='JSON: privacy of whole devices, e.g. {"epsilon_per_run": 4}')
    parser.add_argument("--compression", type=json.loads, default={}, help='JSON, e.g. {"mode": "top-k", "keep": 0.05}')
    parser.add_argument("--mu", type=float, default=0.0, help="FedProx: strength of the pull to the global model")
    parser.add_argument("--personal-layers", default="", help="layers that stay on each device, e.g. 'head.*', with commas")
    parser.add_argument("--optimiser", type=json.loads, default={}, help='JSON, e.g. {"name": "yogi", "learning_rate": 0.01}')
    parser.add_argument("--attack", help="e.g. sign_flip:3, the attack and its first round")
    parser.add_argument("--attackers", default="", help="the attacking devices' names, with commas between")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a small model's threads cost more in waiting for each other than they compute
    privacy = None
    if given.epsilon_per_run is not None:
        privacy = PrivacyTerms(given.epsilon_limit, given.epsilon_per_run, given.delta, given.max_grad_norm, given.rounds)
    adversary = None
    if given.attack:
        name, _, first = given.attack.partition(":")
        adversary = Adversary(frozenset(given.attackers.split(",")), name, int(first or 1))
    try:
        federation = Federation(
            task=load_task(given.task, Path.cwd()),
            parameters={**given.parameters, **({"proximal_mu": given.mu} if given.mu else {})},
            directories={path.name: path for path in sorted(given.data.iterdir()) if path.is_dir()},
            rule=build(given.rule, given.byzantine),
            privacy=privacy,
            compression=Compression.model_validate(given.compression),
            optimiser=ServerOptimiser.model_validate(given.optimiser),
            adversary=adversary,
            seed=given.seed,
            personal=tuple(filter(None, given.personal_layers.split(","))),
            whole=None if given.whole is None else Privacy.model_validate({"mode": "client", **given.whole}),
        )
        curve: list[float] = []
        for result in simulate(federation, given.rounds):
            curve.append(result.metrics.get("accuracy", result.metrics["loss"]))
            shown = {"round": result.number, **result.metrics, "flagged": sorted(result.flagged), "rejected": result.rejected}
            print(json.dumps(shown | {"refused": result.refused, "spent": result.spent}), flush=True)  # noqa: T201  # the edge
        print(json.dumps({"rounds": given.rounds, "curve": curve, **result.metrics}))  # noqa: T201
    except EdgeflError as error:
        print("\n".join(error.lines()), file=sys.stderr)  # noqa: T201
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
