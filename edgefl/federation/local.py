"""What one device does in one round, without Flower: train on its own records and hand back an update; measure a model.

Deterministic for a seed, except for what privacy demands to be secret (sampling and noise). No work at import: warm executors
fork after it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn, optim

from edgefl.errors import EdgeflError, ExitCode
from edgefl.federation import batches
from edgefl.federation.outline import Parameters
from edgefl.federation.personal import PersonalLayers, split
from edgefl.federation.privacy.ledger import Ledger, PrivacyReport, plan_question
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyTerms, plan, shape_of
from edgefl.federation.proximal import attract
from edgefl.federation.task import Datasets, Task

Arrays = Mapping[str, NDArray[Any]]
EVALUATION_BATCH = 512
PERSONAL_SEED = 0
"""Under which a device's own layers begin."""


class TrainingFailed(EdgeflError):
    """The task's code failed on this device; the round goes on without it."""

    exit_code = ExitCode.RUN_FAILED


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """What a device sends back, and what it says of it.

    arrays: what it shares of its model after training, in the names and shapes it got. samples: its training records.
    metrics: the task's own. privacy: what the round cost, None without privacy. seconds, cpu_s: of the whole call.
    """

    arrays: dict[str, NDArray[Any]]
    samples: int
    metrics: dict[str, float]
    privacy: PrivacyReport | None
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Least:
    """What an update must rest on, so that a sum with few others tells little of a single record."""

    records: int
    steps: int


def initial_arrays(task: Task, parameters: Parameters, seed: int, personal: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The first global model: the task's own initialisation under a seed, without the layers that are each device's own.

    personal: patterns of their names. Raises TaskInvalid where they fit no layer, or all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(task, task.settle(parameters))
    return shared_arrays(task, model, personal)


def shared_arrays(task: Task, model: nn.Module, personal: Sequence[str]) -> dict[str, NDArray[Any]]:
    """What of a model leaves its device. Raises TaskInvalid where the patterns fit no layer, or all."""
    arrays = _arrays(model)
    _, shared = split(arrays, personal, task.ref)
    return {name: array for name, array in arrays.items() if name in shared}


def make_model(task: Task, parameters: Parameters) -> nn.Module:
    """The task's model, as its own initialisation leaves it. Raises TrainingFailed where there is none."""
    try:
        model = task.model(parameters)
    except Exception as error:
        raise _failed(task, "model", error) from error
    if not isinstance(model, nn.Module):
        raise TrainingFailed(f"task {task.ref}: `model` gave {type(model).__name__}, not a torch module")
    return model


def train_locally(  # noqa: PLR0917  # all of them together are what a round is
    task: Task,
    arrays: Arrays,
    parameters: Parameters,
    directory: Path,
    privacy: PrivacyTerms | None,
    ledger: Ledger | None,
    run: str,
    round: int,  # noqa: A002  # the word of the field
    seed: int,
    *,
    least: Least | None = None,
    personal: PersonalLayers | None = None,
) -> LocalUpdate:
    """Train the global model on the records in `directory` for one round.

    personal: the device's own layers, which are trained with the rest and kept here.

    With privacy, the round is charged to the ledger before a record is touched by training: a crash later has paid already.
    least: what the round must rest on; with less the device does not train.
    Raises TaskInvalid or TrainingFailed when the task's code does not do what it promises, PrivacyRefused when the device must
    not train (BudgetExceeded among them; the model did not see a record then).
    """
    started, cpu = time.perf_counter(), time.process_time()
    settled = task.settle(parameters)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_mix(seed, round))
        model = _loaded(task, settled, arrays, personal)
        records = _datasets(task, settled, directory).train
        count = batches.size_of(records)
        if count < 1:
            raise TrainingFailed(f"task {task.ref} found no training records in {directory}")
        if least is not None:
            _check_least(least, count, settled)
        optimizer = optim.SGD(model.parameters(), lr=float(settled["learning_rate"]), momentum=float(settled["momentum"]))
        if (mu := float(settled["proximal_mu"])) > 0:
            attract(optimizer, [parameter for name, parameter in model.named_parameters() if name in arrays], mu)
        loss = task.loss(settled) if task.loss is not None else nn.CrossEntropyLoss()
        model.train()
        report = None
        if privacy is None:
            sampling_rate, steps = shape_of(count, settled)
            generator = torch.Generator().manual_seed(_mix(seed, round))
            drawn = batches.shuffled(records, max(1, round_half_up(sampling_rate * count)), steps, generator)
            metrics = _train(task, model, drawn, optimizer, loss, settled)
        else:
            if ledger is None:
                raise ValueError("training privately needs the device's ledger")
            its_plan = _plan(privacy, count, settled, ledger)
            from edgefl.federation.privacy.dpsgd import private  # Opacus: only where it is used

            parts = private(model, optimizer, loss, records, its_plan)
            report = ledger.charge(its_plan, run, round)
            metrics = _train(task, parts.model, parts.batches, parts.optimizer, parts.loss, settled)
            parts.end()
    trained = _arrays(model)
    if personal is not None and personal.patterns:
        personal.keep(task.ref, {name: array for name, array in trained.items() if name not in arrays})
    return LocalUpdate(
        arrays={name: array for name, array in trained.items() if name in arrays},
        samples=count,
        metrics=metrics,
        privacy=report,
        seconds=time.perf_counter() - started,
        cpu_s=time.process_time() - cpu,
    )


def evaluate_locally(
    task: Task, arrays: Arrays, parameters: Parameters, directory: Path, personal: PersonalLayers | None = None
) -> tuple[dict[str, float], int]:
    """Measure the global model, with the device's own layers, on the records that it holds out; (metrics, how many records).

    Raises TrainingFailed when the task's `evaluate` fails or gives no "loss".
    """
    settled = task.settle(parameters)
    model = _loaded(task, settled, arrays, personal)
    records = _datasets(task, settled, directory).test
    model.eval()
    try:
        with torch.no_grad():
            metrics = task.evaluate(model, batches.in_order(records, EVALUATION_BATCH), settled)
    except Exception as error:
        raise _failed(task, "evaluate", error) from error
    if "loss" not in metrics:
        raise TrainingFailed(f"task {task.ref}: `evaluate` gave {sorted(metrics)}, but no `loss`")
    return {name: float(value) for name, value in metrics.items()}, batches.size_of(records)


def round_half_up(value: float) -> int:
    """3.5 is 4: Python's own rounding to even would make batches differ by one between devices for no reason."""
    return int(value + 0.5)


def _check_least(least: Least, records: int, parameters: Parameters) -> None:
    _, steps = shape_of(records, parameters)
    if records < least.records:
        raise TrainingFailed(
            f"{records} records are on this device, and a masked sum needs {least.records} of each",
            hint="leave the device out, or lower secure.least_records",
        )
    if steps < least.steps:
        raise TrainingFailed(
            f"a round takes {steps} steps on this device, and a masked sum needs {least.steps}",
            hint="a smaller batch_size, or more local_epochs, under task.parameters",
        )


def _plan(terms: PrivacyTerms, records: int, parameters: Parameters, ledger: Ledger) -> PrivacyPlan:
    if records < 1:
        return plan(terms, records, parameters)
    sampling_rate, steps = shape_of(records, parameters)
    known = ledger.known_sigma(plan_question(terms.epsilon_per_run, terms.delta, terms.rounds, sampling_rate, steps))
    return plan(terms, records, parameters, known)


def _train(  # noqa: PLR0917  # the task's own five, in its order
    task: Task, model: nn.Module, drawn: batches.Batches, optimizer: Any, loss: Any, parameters: Parameters
) -> dict[str, float]:
    try:
        metrics = task.train(model, drawn, optimizer, loss, parameters)
    except EdgeflError:
        raise
    except Exception as error:
        raise _failed(task, "train", error) from error
    if tuple(sorted(metrics)) != task.metrics:
        raise TrainingFailed(
            f"task {task.ref}: `train` gave {sorted(metrics)}, but promises {list(task.metrics)}",
            hint="METRICS in the task's module lists what train returns",
        )
    return {name: float(value) for name, value in metrics.items()}


def _loaded(task: Task, parameters: Parameters, arrays: Arrays, personal: PersonalLayers | None) -> nn.Module:
    """The task's model with the global arrays and the device's own in it; integers that no device averages (counters) stay as
    the model made them. A device that has no layers of its own yet begins with the task's initialisation, the same everywhere.
    """
    patterns = personal.patterns if personal is not None else ()
    if patterns:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(PERSONAL_SEED)
            model = make_model(task, parameters)
    else:
        model = make_model(task, parameters)
    state = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
    own, shared = split(shapes, patterns, task.ref)
    wanted = {name: shapes[name] for name in shared}
    given = {name: tuple(array.shape) for name, array in arrays.items()}
    if wanted != given:
        name = min(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise TrainingFailed(
            f"the global model does not fit task {task.ref}: {name} is {given.get(name)}, not {wanted.get(name)}"
        )
    whole = dict(arrays)
    if personal is not None and own:
        whole |= personal.load(task.ref, {name: state[name].numpy() for name in own})
    model.load_state_dict(state | {name: torch.from_numpy(np.array(array)) for name, array in whole.items()})
    return model


def _arrays(model: nn.Module) -> dict[str, NDArray[Any]]:
    return {
        name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items() if tensor.is_floating_point()
    }


def _datasets(task: Task, parameters: Parameters, directory: Path) -> Datasets:
    try:
        return task.dataset(directory, parameters)
    except Exception as error:
        raise _failed(task, "dataset", error) from error


def _failed(task: Task, function: str, error: Exception) -> TrainingFailed:
    return TrainingFailed(f"task {task.ref}: `{function}` failed: {type(error).__name__}: {error}")


def _mix(seed: int, round_: int) -> int:
    """One seed per round; distinct for any two rounds of any two nearby seeds."""
    return (seed * 1_000_003 + round_) % 2**63
