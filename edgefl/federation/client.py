"""The ClientApp: one device's part of a round. Runs in a process of its own per message, forked from the warm executor.

The device decides about its own privacy: limits come from its host.json and its ledger alone. What it cannot or must not do it
says in a reply; an exception would reach the coordinator as a bare error after a minute.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from types import UnionType
from typing import Literal

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from edgefl.errors import EdgeflError
from edgefl.federation.aggregation.vectors import Template
from edgefl.federation.answers import Answers, question
from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.compression.held import Held, VersionMissing
from edgefl.federation.flower.zygote import LAUNCHED_VARIABLE
from edgefl.federation.hostconfig import APP_VARIABLE, HostConfig, Places
from edgefl.federation.local import Least, evaluate_locally, train_locally
from edgefl.federation.messages import (
    Arrays,
    Evaluated,
    EvaluateRequest,
    Failed,
    Parameters,
    Privacy,
    Refused,
    Reply,
    Request,
    SecureQuestion,
    Stale,
    Trained,
    TrainRequest,
    Undecodable,
    pack,
    unpack,
)
from edgefl.federation.personal import PersonalLayers
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import BudgetExceeded, PrivacyRefused, PrivacyTerms
from edgefl.federation.secure import device as masked
from edgefl.federation.secure import keeper
from edgefl.federation.secure.vault import Vault
from edgefl.federation.task import Task, load_task
from edgefl.federation.updates import outgoing

app = ClientApp()
LEAST_STEPS = 4
"""Steps of training that a masked update rests on: after one alone, it is a gradient, which tells most of its records."""
SEEDS = 7919
"""Between the seeds of two turns on the same model, so that they draw different batches."""


def train(message: Message, _: Context) -> Message:
    """Train the global model on this device's records and reply with the update."""
    return Message(pack(*answer(message.content, TrainRequest, Places.from_environment())), reply_to=message)


def evaluate(message: Message, _: Context) -> Message:
    """Measure the global model on the records that this device holds out."""
    return Message(pack(*answer(message.content, EvaluateRequest, Places.from_environment())), reply_to=message)


def agree(message: Message, _: Context) -> Message:
    """Answer one of the questions that a masked round asks before and after its training."""
    return Message(pack(*answer(message.content, SecureQuestion, Places.from_environment())), reply_to=message)


app.train()(train)
app.evaluate()(evaluate)
app.query()(agree)


def answer(content: RecordDict, expected: type[Request] | UnionType, places: Places) -> tuple[Reply, Arrays | None]:
    """The reply to a request, and its arrays where it has any; whatever goes wrong on the device is a reply too."""
    launched = os.environ.get(LAUNCHED_VARIABLE)
    start_s = time.monotonic() - float(launched) if launched else 0.0
    try:
        request, received = unpack(content)
        if not isinstance(request, expected):
            raise Undecodable(f"it asks for something else: it says {request.kind}")
        host = HostConfig.load(places.host)
        if isinstance(request, SecureQuestion):
            return keeper.answer(request, received, host, Vault(places.secure), places.signing)
        model = Held(places.held).model(request.model, received)
        if isinstance(request, TrainRequest):
            return trained(request, model, host, places, start_s=start_s)
        return evaluated(request, model, host, places, start_s=start_s), None
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
    """One round of training by this host's own terms: the reply and the update's arrays. A question that was answered already,
    to a coordinator that died over it, gets the same answer: nothing is trained, charged or left out a second time.

    Raises PrivacyRefused or SecureRefused before a record is touched when the budget does not cover the round, or its sum is none
    that this device takes part in; TaskInvalid, TrainingFailed.
    """
    secure, answers, asked = host.secure.mode, Answers(places.answer), question(request, arrays, host)
    if secure != "none":  # what hides under masks or in ciphertexts is made anew: these are good for one round alone
        masked.check(request, host, Vault(places.secure))
    elif (given := answers.given(asked)) is not None:
        return given
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
        run=request.training,
        round=request.round,
        least=Least(host.secure.least_records, LEAST_STEPS) if secure != "none" else None,
        seed=request.seed + SEEDS * request.turn,
        personal=_personal(host, places),
    )
    privacy = Privacy.model_validate(dataclasses.asdict(update.privacy)) if update.privacy is not None else None
    encoding: Literal["model", "delta", "masked", "encrypted"]
    vault, template = Vault(places.secure), Template.of(arrays)
    if secure == "masked":
        delta = template.delta(update.arrays, arrays)
        sent, encoding = masked.mask(delta, request, host, vault, Feedback(places.feedback)), "masked"
    elif secure == "homomorphic":
        sent, encoding = keeper.encrypt(template.delta(update.arrays, arrays), request, host, vault), "encrypted"
    else:
        sent, encoded = outgoing(update.arrays, arrays, host.compression, Feedback(places.feedback), request)
        encoding = "delta" if encoded else "model"
    reply = Trained(
        encoding=encoding,
        samples=update.samples,
        metrics=update.metrics,
        privacy=privacy,
        start_s=start_s,
        train_s=update.seconds,
        cpu_s=time.process_time(),
    )
    if secure == "none":
        answers.keep(asked, reply, sent)
    return reply, sent


def evaluated(request: EvaluateRequest, arrays: Arrays, host: HostConfig, places: Places, *, start_s: float = 0.0) -> Evaluated:
    """Measure a model, with this device's own layers, on this device's held-out records. Raises TaskInvalid, TrainingFailed."""
    began = time.monotonic()
    metrics, samples = evaluate_locally(
        _task(host), arrays, _parameters(host, request.parameters), host.data, _personal(host, places)
    )
    return Evaluated(
        samples=samples,
        metrics=dict(metrics),
        start_s=start_s,
        evaluate_s=time.monotonic() - began,
        cpu_s=time.process_time(),
    )


def _parameters(host: HostConfig, asked: Parameters) -> Parameters:
    return {**host.task.parameters, **asked}


def _personal(host: HostConfig, places: Places) -> PersonalLayers:
    return PersonalLayers(places.personal, host.task.personal_layers)


def _task(host: HostConfig) -> Task:
    return load_task(*task_source(host))


def task_source(host: HostConfig) -> tuple[str, Path | None]:
    """The task's reference and root on a host: a file lies at the top of the unpacked app, whatever folder the site has it in."""
    unpacked = os.environ.get(APP_VARIABLE)
    ref = host.task.module
    return (Path(ref).name if ref.endswith(".py") else ref), Path(unpacked) if unpacked else None
