"""The typed, versioned events of a federation: the interface between what runs and everything that shows it.

An event's `data` holds only JSON values. A field may be added with a default; any other change is a new `version`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from edgefl.events.body import Body as Body  # noqa: PLC0414  # who imports events, imports this from here
from edgefl.events.body import Unrecognised
from edgefl.events.drift import IsolationDrift as IsolationDrift  # noqa: PLC0414

# What enrolments, fleets and ledgers say has files of its own; it is imported from here, as every other kind of event.
from edgefl.events.enrolment import EnrolmentOpened as EnrolmentOpened  # noqa: PLC0414
from edgefl.events.enrolment import EnrolmentRefused as EnrolmentRefused  # noqa: PLC0414
from edgefl.events.enrolment import EnrolmentUsed as EnrolmentUsed  # noqa: PLC0414
from edgefl.events.fleet import AuditFinished as AuditFinished  # noqa: PLC0414
from edgefl.events.fleet import CertificateIssued as CertificateIssued  # noqa: PLC0414
from edgefl.events.fleet import CertificateRefused as CertificateRefused  # noqa: PLC0414
from edgefl.events.fleet import CertificateRevoked as CertificateRevoked  # noqa: PLC0414
from edgefl.events.fleet import DeviceFacts as DeviceFacts  # noqa: PLC0414
from edgefl.events.fleet import DeviceFitness as DeviceFitness  # noqa: PLC0414
from edgefl.events.fleet import DeviceState as DeviceState  # noqa: PLC0414
from edgefl.events.fleet import IsolationProven as IsolationProven  # noqa: PLC0414
from edgefl.events.fleet import OperatorAction as OperatorAction  # noqa: PLC0414
from edgefl.events.spending import ModelPrivacySpent as ModelPrivacySpent  # noqa: PLC0414
from edgefl.events.spending import PrivacyRefused as PrivacyRefused  # noqa: PLC0414
from edgefl.events.spending import PrivacySpent as PrivacySpent  # noqa: PLC0414

Reason = Literal["not_finite", "shape", "keys", "samples", "metrics", "undecodable"]
Verdict = Literal["accept", "down-weight", "reject"]
Conduct = Literal["trusted", "suspect", "probation", "quarantined"]


class RunStarted(Body):
    """A run began on the coordinator. resumes: the run that it goes on from, the first where several did; start: the version
    (`run/round`) of the model that it began with, with its hash, where it did not make one of its own.
    """

    type: Literal["run_started"] = "run_started"
    site: str
    site_hash: str
    task: str
    rounds: int
    devices: list[str]
    quorum: int
    rule: str
    privacy: dict[str, Any] = Field(default_factory=dict)
    first_round: int = 1
    secure: dict[str, Any] = Field(default_factory=dict)
    policy: dict[str, Any] = Field(default_factory=dict)
    resumes: str = ""
    start: str = ""
    start_sha256: str = ""


class RoundStarted(Body):
    """A round began with these devices. secure: `masked` where only sums of updates come back, and no scores or flags of single
    ones. selection: how the devices were chosen; why: what spoke for each, where not all were asked.
    """

    type: Literal["round_started"] = "round_started"
    devices: list[str]
    deadline_s: float
    secure: str = ""
    selection: str = "all"
    why: dict[str, str] = Field(default_factory=dict)


class UpdateReceived(Body):
    """A device's reply arrived. staleness: how many models were made since the one that it began with."""

    type: Literal["update_received"] = "update_received"
    device: str
    samples: int
    bytes_up: int
    bytes_down: int
    train_s: float
    transfer_s: float
    start_s: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    cpu_s: float = 0.0
    staleness: int = 0


class UpdateRejected(Body):
    """A reply that cannot be an update: never aggregated, never fatal."""

    type: Literal["update_rejected"] = "update_rejected"
    device: str
    reason: Reason
    detail: str


class UpdateScored(Body):
    """What the rule thought of an update, with its evidence."""

    type: Literal["update_scored"] = "update_scored"
    device: str
    rule: str
    score: float
    threshold: float
    verdict: Verdict
    weight: float
    norm: float
    cosine: float
    reason: str = ""
    reputation: float = 1.0


class FlagRaised(Body):
    """A finding about a device; `peers` are the other updates' scores, for the strip plot."""

    type: Literal["flag_raised"] = "flag_raised"
    device: str
    rule: str
    score: float
    threshold: float
    peers: list[float]
    reason: str


class DeviceJudged(Body):
    """What the policy makes of a device changed, by its last rounds or by the operator's pardon.

    flags: flagged rounds among the last `window` that it took part in. rounds_out: how many rounds it is left out of.
    """

    type: Literal["device_judged"] = "device_judged"
    device: str
    before: Conduct
    conduct: Conduct
    reason: str
    flags: int = 0
    window: int = 0
    rounds_out: int = 0


class DeviceDropped(Body):
    """A device gave no update this round."""

    type: Literal["device_dropped"] = "device_dropped"
    device: str
    reason: str


class SumUnmasked(Body):
    """The masks came off the sum of the survivors' updates; of their single ones the coordinator learnt nothing.

    members: who began it. needed: how many had to stay.
    """

    type: Literal["sum_unmasked"] = "sum_unmasked"
    members: list[str]
    survivors: list[str]
    needed: int


class SumLost(Body):
    """A sum was given up: no update of its members counts. culprit: the device whose doing it was, where that is certain."""

    type: Literal["sum_lost"] = "sum_lost"
    members: list[str]
    reason: str
    culprit: str = ""


class SumScored(Body):
    """What the rule thought of the mean of a group's updates; it says nothing of a single device."""

    type: Literal["sum_scored"] = "sum_scored"
    members: list[str]
    rule: str
    score: float
    threshold: float
    verdict: Verdict
    weight: float
    norm: float
    cosine: float
    reason: str = ""


class RoundFinished(Body):
    """A round's result. `seconds` has the stages send, start, train, upload, score, aggregate, evaluate; `ratio` says for `up`
    and `down` how many times smaller than the model in float32 a message was. `parent` is the version (`run/round`) of the model
    that the devices trained from.
    """

    type: Literal["round_finished"] = "round_finished"
    accuracy: float | None
    loss: float | None
    metrics: dict[str, float] = Field(default_factory=dict)
    participants: list[str]
    dropped: list[str]
    rejected: list[str]
    flagged: list[str]
    bytes_up: int
    bytes_down: int
    seconds: dict[str, float]
    ratio: dict[str, float] = Field(default_factory=dict)
    model: str = ""
    model_sha256: str = ""
    parent: str = ""
    parent_sha256: str = ""


class RoundSkipped(Body):
    """Too few updates: the global model stays as it was."""

    type: Literal["round_skipped"] = "round_skipped"
    reason: str
    participants: list[str]


class RunFinished(Body):
    """A run ended."""

    type: Literal["run_finished"] = "run_finished"
    status: Literal["completed", "stopped", "failed"]
    reason: str = ""
    accuracy: float | None = None
    loss: float | None = None
    model: str = ""
    model_sha256: str = ""


class StartChosen(Body):
    """An operator chose the version (`run/round`) of the model that the next run starts from; empty: the task's own again."""

    type: Literal["start_chosen"] = "start_chosen"
    who: str
    model: str = ""
    sha256: str = ""
    why: str = ""


KnownBody = Annotated[
    RunStarted
    | RoundStarted
    | UpdateReceived
    | UpdateRejected
    | UpdateScored
    | FlagRaised
    | DeviceJudged
    | DeviceDropped
    | SumUnmasked
    | SumLost
    | SumScored
    | PrivacySpent
    | PrivacyRefused
    | ModelPrivacySpent
    | RoundFinished
    | RoundSkipped
    | RunFinished
    | StartChosen
    | DeviceState
    | DeviceFacts
    | DeviceFitness
    | CertificateIssued
    | CertificateRefused
    | CertificateRevoked
    | EnrolmentOpened
    | EnrolmentUsed
    | EnrolmentRefused
    | IsolationProven
    | IsolationDrift
    | OperatorAction
    | AuditFinished,
    Field(discriminator="type"),
]
KINDS: frozenset[str] = frozenset(body.model_fields["type"].default for body in get_args(get_args(KnownBody)[0]))
"""Every `type` that this version knows."""


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "known" if kind is None or kind in KINDS else "unrecognised"


AnyBody = Annotated[
    Annotated[KnownBody, Tag("known")] | Annotated[Unrecognised, Tag("unrecognised")],
    Discriminator(_kind),
]
BODIES: TypeAdapter[AnyBody] = TypeAdapter(AnyBody)


class Event(BaseModel):
    """An event as the journal keeps it.

    seq: its place, from 1, without gaps. previous, hash: hex SHA-256; `hash` covers every other field (events/chain.py).
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    seq: int
    at: datetime
    run: str = ""
    round: int = 0
    version: int = 1
    body: AnyBody
    previous: str
    hash: str
