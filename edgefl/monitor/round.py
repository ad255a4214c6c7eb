"""Runs and rounds as tables, and how each event changes them. Values only: every change gives a new row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any, Literal

from edgefl.events.schema import (
    DeviceDropped,
    Event,
    FlagRaised,
    ModelPrivacySpent,
    PrivacyRefused,
    PrivacySpent,
    RoundFinished,
    RoundSkipped,
    RoundStarted,
    RunFinished,
    RunStarted,
    SumLost,
    SumScored,
    SumUnmasked,
    UpdateReceived,
    UpdateRejected,
    UpdateScored,
)
from edgefl.monitor.evolve import evolve

STAGES = ("send", "start", "train", "upload", "score", "aggregate", "evaluate")
"""Where a round's time goes, in the order in which it passes."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run; `status` is `running` until it has ended. rounds: the number of its last round; resumes, start: see RunStarted."""

    id: str
    status: Literal["running", "completed", "stopped", "failed"] = "running"
    task: str = ""
    rounds: int = 0
    first_round: int = 1
    resumes: str = ""
    start: str = ""
    devices: tuple[str, ...] = ()
    quorum: int = 0
    rule: str = ""
    privacy: dict[str, Any] = field(default_factory=dict)
    started: datetime
    finished: datetime | None = None
    reason: str = ""
    accuracy: float | None = None
    loss: float | None = None
    model: str = ""
    model_sha256: str = ""

    @classmethod
    def begun(cls, body: RunStarted, event: Event) -> RunRow:
        """As it started."""
        return cls(
            id=event.run,
            task=body.task,
            rounds=body.rounds,
            first_round=body.first_round,
            resumes=body.resumes,
            start=body.start,
            devices=tuple(body.devices),
            quorum=body.quorum,
            rule=body.rule,
            privacy=dict(body.privacy),
            started=event.at,
        )

    def ended(self, body: RunFinished, event: Event) -> RunRow:
        """As it ended."""
        return evolve(
            self,
            status=body.status,
            finished=event.at,
            reason=body.reason,
            accuracy=body.accuracy if body.accuracy is not None else self.accuracy,
            loss=body.loss if body.loss is not None else self.loss,
            model=body.model or self.model,
            model_sha256=body.model_sha256 or self.model_sha256,
        )


@dataclass(frozen=True)
class Spread:
    """A measure over several ledgers."""

    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(min(values), median(values), max(values))


@dataclass(frozen=True, kw_only=True)
class UpdateRow:
    """One device's part in one round: what it sent and what the rule thought of it.

    rejected, dropped: why, empty when it was not. verdict is empty until the update was scored; a masked one never is.
    spent: which part of its budget the device's ledger had spent by then. settled: when its reply was filed, or given up.
    """

    device: str
    masked: bool = False
    samples: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    start_s: float | None = None
    train_s: float | None = None
    transfer_s: float | None = None
    cpu_s: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    score: float | None = None
    threshold: float | None = None
    verdict: Literal["", "accept", "down-weight", "reject"] = ""
    weight: float | None = None
    norm: float | None = None
    cosine: float | None = None
    reputation: float | None = None
    reason: str = ""
    flagged: bool = False
    rejected: str = ""
    dropped: str = ""
    staleness: int = 0
    spent: float | None = None
    settled: datetime | None = None

    def after(self, event: Event) -> UpdateRow:
        """The row after an event of its round that names its device."""
        settled = self.settled or event.at
        match event.body:
            case UpdateReceived() as body:
                return evolve(self, settled=settled, **body.model_dump(exclude={"type", "device"}))
            case UpdateRejected() as body:
                return evolve(self, settled=settled, rejected=f"{body.reason}: {body.detail}")
            case UpdateScored() as body:
                return evolve(self, **body.model_dump(exclude={"type", "device", "rule"}))
            case FlagRaised() as body:
                return evolve(self, flagged=True, reason=self.reason or body.reason)
            case DeviceDropped() | PrivacyRefused() as body:
                return evolve(self, settled=settled, dropped=body.reason)
            case PrivacySpent() as body:
                return evolve(self, spent=body.spent / body.limit if body.limit else None)
        return self


@dataclass(frozen=True, kw_only=True)
class SumRow:
    """One sum of a masked round. lost: why there is none, empty when there is. The score is that of a group's mean."""

    members: tuple[str, ...]
    survivors: tuple[str, ...] = ()
    needed: int = 0
    lost: str = ""
    score: float | None = None
    threshold: float | None = None
    verdict: Literal["", "accept", "down-weight", "reject"] = ""
    weight: float | None = None
    norm: float | None = None
    cosine: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """One round. seconds: by stage (STAGES), as the server measured them. ratio: how many times smaller than the model in float32
    a message was, `up` and `down`. updates: by device; empty in rounds long past. why: what spoke for asking each device, where
    not all were asked. spent: which part of their budgets the round's ledgers had spent by its end; None while none has said.
    since: when the round before it had ended, or the run had begun: from then until `started` its devices were chosen.
    """

    number: int
    state: Literal["running", "finished", "skipped"] = "running"
    started: datetime
    finished: datetime | None = None
    deadline_s: float | None = None
    devices: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()
    accuracy: float | None = None
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    model: str = ""
    model_sha256: str = ""
    parent: str = ""
    parent_sha256: str = ""
    reason: str = ""
    secure: str = ""
    sums: tuple[SumRow, ...] = ()
    updates: dict[str, UpdateRow] = field(default_factory=dict)
    selection: str = "all"
    why: dict[str, str] = field(default_factory=dict)
    spent: Spread | None = None
    since: datetime | None = None

    @property
    def wall_s(self) -> float | None:
        """From its first message to its result, in seconds; None while it runs."""
        return (self.finished - self.started).total_seconds() if self.finished else None

    @classmethod
    def begun(cls, body: RoundStarted, event: Event, since: datetime | None = None) -> RoundRow:
        """As it started."""
        return cls(
            number=event.round,
            since=since,
            started=event.at,
            devices=tuple(body.devices),
            deadline_s=body.deadline_s,
            secure=body.secure,
            selection=body.selection,
            why=dict(body.why),
        )

    def after(self, event: Event) -> RoundRow:
        """The row after an event of this round."""
        body = event.body
        match body:
            case RoundFinished():
                done = body.model_dump(exclude={"type", "participants", "dropped", "rejected", "flagged"})
                shares = [update.spent for update in self.updates.values() if update.spent is not None]
                return evolve(
                    self,
                    state="finished",
                    finished=event.at,
                    participants=tuple(body.participants),
                    dropped=tuple(body.dropped),
                    rejected=tuple(body.rejected),
                    flagged=tuple(body.flagged),
                    spent=Spread.of(shares) if shares else self.spent,
                    **done,
                )
            case RoundSkipped():
                return evolve(self, state="skipped", finished=event.at, participants=tuple(body.participants), reason=body.reason)
            case UpdateReceived():
                row = evolve(self, bytes_up=self.bytes_up + body.bytes_up, bytes_down=self.bytes_down + body.bytes_down)
                return row._with_update(body.device, event)
            case SumUnmasked():
                made = SumRow(members=tuple(body.members), survivors=tuple(body.survivors), needed=body.needed)
                return evolve(self, sums=(*self.sums, made))
            case SumLost():
                return evolve(self, sums=(*self.sums, SumRow(members=tuple(body.members), lost=body.reason)))
            case SumScored():
                scored = body.model_dump(exclude={"type", "members", "rule"})
                sums = (evolve(made, **scored) if made.survivors == tuple(body.members) else made for made in self.sums)
                return evolve(self, sums=tuple(sums))
            case ModelPrivacySpent():
                return evolve(self, spent=Spread.of([body.spent / body.limit]) if body.limit else None)
            case UpdateRejected() | UpdateScored() | FlagRaised() | DeviceDropped() | PrivacyRefused() | PrivacySpent():
                return self._with_update(body.device, event)
        return self

    def _with_update(self, device: str, event: Event) -> RoundRow:
        update = self.updates.get(device) or UpdateRow(device=device, masked=bool(self.secure))
        return evolve(self, updates={**self.updates, device: update.after(event)})
