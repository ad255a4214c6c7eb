"""The ClientApp: one device's part of a round. Runs in a process of its own per message, forked from the warm executor.

The device decides about its own privacy: limits come from its host.json and its ledger alone. What it cannot or must not do it
says in a reply; an exception would reach the coordinator as a bare error after a minute.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from edgefl.errors import EdgeflError
from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.compression.held import Held, VersionMissing
from edgefl.federation.flower.zygote import LAUNCHED_VARIABLE
from edgefl.federation.hostconfig import APP_VARIABLE, HostConfig, Places
from edgefl.federation.local import evaluate_locally, train_locally
from edgefl.federation.messages import (
    Arrays,
    Evaluated,
    EvaluateRequest,
    Failed,
    Parameters,
    Privacy,
    Refused,
    Reply,
    Stale,
    Trained,
    TrainRequest,
    Undecodable,
    pack,
    unpack,
)
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import BudgetExceeded, PrivacyRefused, PrivacyTerms
from edgefl.federation.task import Task, load_task
from edgefl.federation.updates import outgoing

app = ClientApp()


def train(message: Message, _: Context) -> Message:
    """Train the global model on this device's records and reply with the update."""
    return Message(pack(*answer(message.content, TrainRequest, Places.from_environment())), reply_to=message)


def evaluate(message: Message, _: Context) -> Message:
    """Measure the global model on the records that this device holds out."""
    return Message(pack(*answer(message.content, EvaluateRequest, Places.from_environment())), reply_to=message)


app.train()(train)
app.evaluate()(evaluate)


def answer(content: RecordDict, expected: type[TrainRequest | EvaluateRequest], places: Places) -> tuple[Reply, Arrays | None]:
    """The reply to a request, and its arrays where it has any; whatever goes wrong on the device is a reply too."""
    launched = os.environ.get(LAUNCHED_VARIABLE)
    start_s = time.monotonic() - float(launched) if launched else 0.0
    try:
        request, received = unpack(content)
        if not isinstance(request, expected):
            raise Undecodable(f"it should ask to {expected.model_fields['kind'].default}, but it says {request.kind}")
        host = HostConfig.load(places.host)
        model = Held(places.held).model(request.model, received)
        if isinstance(request, TrainRequest):
            return trained(request, model, host, places, start_s=start_s)
        return evaluated(request, model, host, start_s=start_s), None
    except VersionMissing:
        return Stale(), None
    except BudgetExceeded as refusal:
        return Refused(reason=refusal.what, spent=refusal.spent, limit=refusal.limit, cost=refusal.cost), None
    except PrivacyRefused as refusal:
        return Refused(reason=refusal.what), None
    except EdgeflError as error:
        return Failed(reason=" ".join(error.lines())[:2000]), None
    except Undecodable as error:
        return Failed(reason=f"the coordinator's message cannot be read: {error}"), None


def trained(
    request: TrainRequest, arrays: Arrays, host: HostConfig, places: Places, *, start_s: float = 0.0
) -> tuple[Trained, Arrays]:
    """One round of training by this host's own terms: the reply and the update's arrays.

    Raises PrivacyRefused before a record is touched when the budget does not cover the round; TaskInvalid, TrainingFailed.
    """
    terms = PrivacyTerms.from_host(host.model_dump(mode="json"))
    if terms is not None:
        # The coordinator may plan more rounds than this host knows of: that can only add noise to each.
        terms = dataclasses.replace(terms, rounds=max(terms.rounds, request.rounds))
    update = train_locally(
        _task(host),
        arrays,
        _parameters(host, request.parameters),
        host.data,
        privacy=terms,
        ledger=Ledger(places.ledger) if terms is not None else None,
        run=request.run,
        round=request.round,
        seed=request.seed,
    )
    privacy = Privacy.model_validate(dataclasses.asdict(update.privacy)) if update.privacy is not None else None
    sent, encoded = outgoing(update.arrays, arrays, host.compression, Feedback(places.feedback), request)
    reply = Trained(
        encoding="delta" if encoded else "model",
        samples=update.samples,
        metrics=update.metrics,
        privacy=privacy,
        start_s=start_s,
        train_s=update.seconds,
        cpu_s=time.process_time(),
    )
    return reply, sent


def evaluated(request: EvaluateRequest, arrays: Arrays, host: HostConfig, *, start_s: float = 0.0) -> Evaluated:
    """Measure a model on this device's held-out records. Raises TaskInvalid, TrainingFailed."""
    began = time.monotonic()
    metrics, samples = evaluate_locally(_task(host), arrays, _parameters(host, request.parameters), host.data)
    return Evaluated(
        samples=samples,
        metrics=dict(metrics),
        start_s=start_s,
        evaluate_s=time.monotonic() - began,
        cpu_s=time.process_time(),
    )


def _parameters(host: HostConfig, asked: Parameters) -> Parameters:
    return {**host.task.parameters, **asked}


def _task(host: HostConfig) -> Task:
    return load_task(*task_source(host))


def task_source(host: HostConfig) -> tuple[str, Path | None]:
    """The task's reference and root on a host: a file lies at the top of the unpacked app, whatever folder the site has it in."""
    unpacked = os.environ.get(APP_VARIABLE)
    ref = host.task.module
    return (Path(ref).name if ref.endswith(".py") else ref), Path(unpacked) if unpacked else None
