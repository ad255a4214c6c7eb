"""What federation costs: the site's training, simulated, beside the same training with all records in one place."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn, optim
from torch.utils.data import TensorDataset

from edgefl.federation import batches
from edgefl.federation.aggregation.rules import build
from edgefl.federation.local import evaluate_locally, initial_arrays, round_half_up
from edgefl.federation.privacy.audits.results import Baseline, Curve
from edgefl.federation.privacy.audits.subject import Subject
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyTerms
from edgefl.federation.simulate import Federation, simulate
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site.model import Aggregation

STAGE = "baseline"


def federated(subject: Subject, aggregation: Aggregation, personal: Sequence[str] = ()) -> Iterator[Progress | Curve]:
    """The site's own training, every device honest, in one process; ends with the Curve. Nothing is compressed, and every device
    is asked in every round. personal: patterns of the layers that stay on each device.
    """
    rule = aggregation.rule
    began, terms = time.monotonic(), subject.terms
    name = _named("federated", subject.private, terms)
    yield Started(STAGE, name, f"{len(subject.directories)} devices, {rule}", total=terms.rounds)
    private = PrivacyTerms(float("inf"), terms.epsilon_per_run, terms.delta, terms.max_grad_norm, terms.rounds)
    federation = Federation(
        task=subject.task,
        parameters=subject.parameters,
        directories={f"{place:03}-{path.name}": path for place, path in enumerate(subject.directories)},
        rule=build(rule, aggregation.byzantine, aggregation.mixing),
        optimiser=aggregation.optimiser,
        personal=tuple(personal),
        privacy=private if subject.private else None,
        seed=subject.seed,
    )
    metrics: list[dict[str, float]] = []
    for result in simulate(federation, terms.rounds):
        metrics.append(result.metrics)
        yield Step(STAGE, name, _told(result.number, terms.rounds, result.metrics))
    epsilon = terms.epsilon_per_run if subject.private else None
    yield from _ended(Curve(name=name, is_site=True, where="federated", epsilon=epsilon, metrics=metrics), began)


def centralised(subject: Subject, *, noise: bool) -> Iterator[Progress | Curve]:
    """All records in one place: as many steps at the same sampling rate; ends with the Curve.

    noise: with the device's noise multiplier, so that each record has the same epsilon. Without it, a private site's gradients
    are clipped all the same: its learning rate is made for that.
    """
    began, terms = time.monotonic(), subject.terms
    name = _named("centralised", noise, terms) if noise or not subject.private else "centralised, no noise"
    records = TensorDataset(*(torch.cat(parts) for parts in zip(*subject.records, strict=True)))
    sampling_rate, steps = subject.shape
    sigma = subject.plan(terms.epsilon_per_run).sigma if noise else 0.0
    yield Started(STAGE, name, f"{len(records)} records", total=terms.rounds)
    model, arrays = subject.model(), initial_arrays(subject.task, subject.parameters, subject.seed)
    model.load_state_dict(model.state_dict() | {key: torch.from_numpy(array) for key, array in arrays.items()})
    generator = torch.Generator().manual_seed(subject.seed)
    metrics: list[dict[str, float]] = []
    for number in range(1, terms.rounds + 1):
        model.train()
        if subject.private:
            _private_round(subject, model, records, PrivacyPlan(terms, len(records), sampling_rate, steps, sigma))
        else:
            drawn = batches.shuffled(records, max(1, round_half_up(sampling_rate * len(records))), steps, generator)
            subject.task.train(model, drawn, _optimizer(subject, model), subject.loss(), subject.parameters)
        metrics.append(_measured(subject, model))
        yield Step(STAGE, name, _told(number, terms.rounds, metrics[-1]))
    epsilon = terms.epsilon_per_run if noise else None
    yield from _ended(Curve(name=name, is_site=False, where="centralised", epsilon=epsilon, metrics=metrics), began)


def baseline(subject: Subject, curves: Sequence[Curve]) -> Baseline:
    """The curves as one result."""
    return Baseline(
        curves=list(curves),
        devices=len(subject.directories),
        records=sum(len(labels) for _, labels in subject.records),
        steps=subject.shape[1],
        rounds=subject.terms.rounds,
    )


def _private_round(subject: Subject, model: nn.Module, records: TensorDataset, plan: PrivacyPlan) -> None:
    """One round of DP-SGD as a device does it; the model keeps what it learned, but not what Opacus hangs on it."""
    from edgefl.federation.privacy.dpsgd import private  # Opacus: only where it is used

    parts = private(model, _optimizer(subject, model), subject.loss(), records, plan)
    subject.task.train(parts.model, parts.batches, parts.optimizer, parts.loss, subject.parameters)
    cast("Any", parts.model).to_standard_module()  # Opacus' wrapper has it


def _optimizer(subject: Subject, model: nn.Module) -> Any:
    rate, momentum = float(subject.parameters["learning_rate"]), float(subject.parameters["momentum"])
    return optim.SGD(model.parameters(), lr=rate, momentum=momentum)


def _measured(subject: Subject, model: nn.Module) -> dict[str, float]:
    """The mean of each metric over the devices' held-out records."""
    arrays = {name: value.detach().numpy() for name, value in model.state_dict().items() if value.is_floating_point()}
    measured = [evaluate_locally(subject.task, arrays, subject.parameters, directory) for directory in subject.directories]
    total = sum(count for _, count in measured)
    return {name: sum(metrics[name] * count for metrics, count in measured) / total for name in measured[0][0]}


def _named(where: str, private: bool, terms: PrivacyTerms) -> str:
    return f"{where}, ε {terms.epsilon_per_run:g}" if private else where


def _told(number: int, rounds: int, metrics: dict[str, float]) -> str:
    figures = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    return f"round {number} of {rounds}: {figures}"


def _ended(curve: Curve, began: float) -> Iterator[Progress | Curve]:
    seconds = time.monotonic() - began
    yield Finished(STAGE, curve.name, _told(len(curve.metrics), len(curve.metrics), curve.metrics[-1]), seconds=seconds)
    yield curve.model_copy(update={"seconds": seconds})
