"""What is known about one device, and how each event changes it. Values only: every change gives a new row."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from edgefl.events.schema import (
    CertificateIssued,
    DeviceDropped,
    DeviceFacts,
    DeviceFitness,
    DeviceJudged,
    DeviceState,
    Event,
    FlagRaised,
    IsolationDrift,
    IsolationProven,
    PrivacyRefused,
    PrivacySpent,
    UpdateReceived,
    UpdateRejected,
    UpdateScored,
)
from edgefl.monitor.evolve import evolve

Shown = Literal["enrolled", "online", "offline", "training", "waiting", "suspect", "quarantined", "drained", "removed"]

CLEARED_AFTER = 3
"""Accepted updates in a row after which a device is no longer suspect: one bad round does not brand it, nor one good clear it."""
_FLAGS_KEPT = 20


@dataclass(frozen=True)
class Flag:
    """A finding about the device, with its evidence."""

    run: str
    round: int
    at: datetime
    rule: str
    score: float
    threshold: float
    reason: str
    peers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """A certificate of the site's authority; `revoked` is the reason, empty while it is valid.

    rotations: how many others its subject had in the same role before.
    """

    subject: str
    role: str
    serial: str
    not_before: datetime
    not_after: datetime
    revoked: str = ""
    rotations: int = 0

    @classmethod
    def of(cls, body: CertificateIssued) -> Certificate:
        """As it was issued."""
        return cls(body.subject, body.role, body.serial, body.not_before, body.not_after)


@dataclass(frozen=True)
class Epsilon:
    """A copy of a ledger, a device's or the coordinator's; `refused`: why a device refused its last round, empty if not."""

    spent: float = 0.0
    limit: float | None = None
    delta: float | None = None
    sigma: float | None = None
    sampling_rate: float | None = None
    run_spent: float = 0.0
    rounds_left: int | None = None
    refused: str = ""

    @property
    def share(self) -> float:
        """Spent by limit, 0 when no limit is known."""
        return self.spent / self.limit if self.limit else 0.0


@dataclass(frozen=True)
class Drift:
    """The host's walls were not as they were laid down; `healed` is what the host says of itself."""

    at: datetime
    found: tuple[str, ...]
    healed: bool


@dataclass(frozen=True)
class Isolation:
    """The last proof; it holds when both lists are empty, and until the walls are found changed. probes: 0 without a proof.

    paths: see IsolationProven.
    """

    at: datetime
    probes: int
    open_forbidden: tuple[str, ...]
    closed_required: tuple[str, ...]
    proof_sha256: str
    paths: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    drift: Drift | None = None

    @classmethod
    def of(cls, body: IsolationProven, event: Event) -> Isolation:
        """As it was reported."""
        wrong = tuple(body.open_forbidden), tuple(body.closed_required)
        return cls(event.at, body.probes, *wrong, body.proof_sha256, dict(body.paths))

    @classmethod
    def shaken(cls, proof: Isolation | None, body: IsolationDrift, event: Event) -> Isolation:
        """What a proof is still worth when the walls were changed after it."""
        drift = Drift(body.at, tuple(body.found), body.healed)
        return evolve(proof, drift=drift) if proof else cls(event.at, 0, (), (), "", drift=drift)

    @property
    def holds(self) -> bool:
        """Whether nothing forbidden was open and nothing required closed, and the walls are the same since."""
        return not self.open_forbidden and not self.closed_required and self.drift is None


@dataclass(frozen=True, kw_only=True)
class DeviceRow:
    """One device as the console and `edgefl devices` show it.

    state is derived from what follows it: standing, then connection, then suspicion, then activity.
    round, accuracy, loss, samples, update_*, *_s and cpu are the last update's; updates, rejected, dropped and bytes_* add up.
    cpu: cores kept busy while training, e.g. 0.7. seen: when it last gave a sign of life. unfit: why the last `up` left it out.
    """

    name: str
    state: Shown = "enrolled"
    detail: str = ""
    connected: bool | None = None
    activity: Literal["", "training", "waiting"] = ""
    suspect: bool = False
    judged: bool = False
    conduct: Literal["", "trusted", "suspect", "probation", "quarantined"] = ""
    standing: Literal["", "quarantined", "drained", "removed"] = ""
    seen: datetime | None = None

    architecture: str = ""
    cores: float | None = None
    memory_mb: int | None = None
    address: str = ""
    release: str = ""
    distribution: str = ""
    accelerators: tuple[str, ...] = ()
    unfit: str = ""

    round: int = 0
    accuracy: float | None = None
    loss: float | None = None
    samples: int | None = None
    update_bytes_up: int = 0
    update_bytes_down: int = 0
    train_s: float | None = None
    transfer_s: float | None = None
    cpu: float | None = None

    updates: int = 0
    rejected: int = 0
    dropped: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    epsilon: Epsilon = field(default_factory=Epsilon)
    reputation: float = 1.0
    clean_updates: int = 0
    flags: tuple[Flag, ...] = ()
    flag_count: int = 0
    certificate: Certificate | None = None
    isolation: Isolation | None = None

    def after(self, event: Event) -> DeviceRow:
        """The row after an event whose body names this device; itself when the event says nothing about it."""
        match event.body:
            case UpdateReceived() as body:
                return self._received(body, event)
            case UpdateRejected() as body:
                return self.settled(rejected=self.rejected + 1, activity="waiting", detail=f"{body.reason}: {body.detail}")
            case UpdateScored() as body:
                return self._scored(body)
            case FlagRaised() as body:
                flag = Flag(
                    event.run, event.round, event.at, body.rule, body.score, body.threshold, body.reason, tuple(body.peers)
                )
                kept = (*self.flags, flag)[-_FLAGS_KEPT:]
                suspect = self.suspect or not self.judged
                return self.settled(
                    suspect=suspect, clean_updates=0, flags=kept, flag_count=self.flag_count + 1, detail=body.reason
                )
            case DeviceJudged() as body:
                suspect = body.conduct in {"suspect", "probation"}
                return self.settled(conduct=body.conduct, suspect=suspect, clean_updates=0, detail=body.reason)
            case DeviceDropped() as body:
                return self.settled(dropped=self.dropped + 1, activity="waiting", detail=body.reason)
            case PrivacySpent() as body:
                spent = Epsilon(
                    body.spent, body.limit, body.delta, body.sigma, body.sampling_rate, body.run_spent, body.rounds_left
                )
                return evolve(self, epsilon=spent, seen=event.at)
            case PrivacyRefused() as body:
                refused = evolve(self.epsilon, spent=body.spent, limit=body.limit, refused=body.reason)
                return self.settled(epsilon=refused, activity="waiting", detail=body.reason, seen=event.at)
        return self._described(event)

    def settled(self, **changes: object) -> DeviceRow:
        """The row with these changes, and the state that follows from them."""
        row = evolve(self, **changes)  # type: ignore[arg-type]  # forwarded to the dataclass's own fields
        state = row._shown()
        return row if state == row.state else evolve(row, state=state)

    def _described(self, event: Event) -> DeviceRow:
        match event.body:
            case DeviceState() as body:
                return self._moved(body, event)
            case DeviceFacts() as body:
                return evolve(
                    self,
                    architecture=body.architecture,
                    cores=body.cores,
                    memory_mb=body.memory_mb,
                    address=body.address,
                    release=body.release,
                    distribution=body.distribution,
                    accelerators=tuple(body.accelerators),
                )
            case DeviceFitness() as body:
                return evolve(self, unfit=body.why)
            case IsolationProven() as body:
                return evolve(self, isolation=Isolation.of(body, event))
            case IsolationDrift() as body:
                return evolve(self, isolation=Isolation.shaken(self.isolation, body, event))
        return self

    def _shown(self) -> Shown:
        if self.standing:
            return self.standing
        if self.conduct == "quarantined":
            return "quarantined"
        if self.connected is False:
            return "offline"
        if self.suspect:
            return "suspect"
        return self.activity or ("online" if self.connected else "enrolled")

    def _received(self, body: UpdateReceived, event: Event) -> DeviceRow:
        return self.settled(
            connected=True,
            activity="waiting",
            seen=event.at,
            round=event.round,
            samples=body.samples,
            accuracy=body.accuracy if body.accuracy is not None else self.accuracy,
            loss=body.loss if body.loss is not None else self.loss,
            update_bytes_up=body.bytes_up,
            update_bytes_down=body.bytes_down,
            train_s=body.train_s,
            transfer_s=body.transfer_s,
            cpu=body.cpu_s / body.train_s if body.train_s > 0 else None,
            updates=self.updates + 1,
            bytes_up=self.bytes_up + body.bytes_up,
            bytes_down=self.bytes_down + body.bytes_down,
            detail="" if not self.suspect else self.detail,
        )

    def _scored(self, body: UpdateScored) -> DeviceRow:
        clean = self.clean_updates + 1 if body.verdict == "accept" else 0
        suspect = self.suspect and (self.judged or clean < CLEARED_AFTER)
        return self.settled(
            reputation=body.reputation,
            clean_updates=clean,
            suspect=suspect,
            detail=self.detail if suspect or not self.suspect else "",
        )

    def _moved(self, body: DeviceState, event: Event) -> DeviceRow:
        match body.state:
            case "online" | "offline":
                online = body.state == "online"
                seen = event.at if online else self.seen
                return self.settled(connected=online, activity=self.activity if online else "", seen=seen, detail=body.detail)
            case "training" | "waiting":
                return self.settled(activity=body.state, detail=body.detail)
            case "suspect":
                return self.settled(suspect=True, clean_updates=0, detail=body.detail)
            case "quarantined" | "drained" | "removed":
                return self.settled(standing=body.state, detail=body.detail)
            case "undrained":
                return self.settled(standing="", detail=body.detail) if self.standing == "drained" else self
            case "enrolled":  # also how a device is released from quarantine, the operator's or the policy's
                return self.settled(standing="", conduct="", suspect=False, clean_updates=0, detail=body.detail)
