"""The federation as one value: a pure fold of the journal's events into what status, console and metrics show.

`apply` never changes a state; it returns another that shares what did not change. States travel as JSON (`to_json`,
`from_json`), so a client folds on from a snapshot with the events after its `seq`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from edgefl.events.schema import (
    AuditFinished,
    CertificateIssued,
    CertificateRevoked,
    DeviceState,
    Event,
    FlagRaised,
    IsolationDrift,
    IsolationProven,
    ModelPrivacySpent,
    RoundFinished,
    RoundSkipped,
    RoundStarted,
    RunFinished,
    RunStarted,
    StartChosen,
    UpdateReceived,
    UpdateRejected,
)
from edgefl.monitor.device import Certificate, DeviceRow, Epsilon, Isolation
from edgefl.monitor.evolve import evolve
from edgefl.monitor.round import RoundRow, RunRow

_RUNS_KEPT = 20
_ROUNDS_KEPT = 2000
_DETAILED = 50
"""Rounds whose single updates are kept; of older ones the journal still has them."""


@dataclass(frozen=True)
class Totals:
    """What only ever grows: the counters of /metrics. flags: by rule. seconds: by stage of a round."""

    runs: int = 0
    rounds: int = 0
    rounds_skipped: int = 0
    updates: int = 0
    updates_rejected: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """What an operator's last audit of a kind found: see AuditFinished. site_hash: the site.yaml whose task was attacked."""

    at: datetime
    who: str
    passed: bool
    says: str
    figures: dict[str, float] = field(default_factory=dict)
    site_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class FederationState:
    """Everything about one federation that is shown, after the event `seq`.

    run: the current or last one; rounds: its rounds, in order; runs: those before it, oldest first.
    start: the version of the model that the next run starts from; empty: the task's own.
    devices: by name, in the site's order. certificates: the newest by `role/subject`, the devices' included.
    proofs: the newest of the isolation of the coordinator and of the host that watches, by name; a device's is in its row.
    audits: the newest of each kind.
    models: the coordinator's own ledger, where it protects whole devices; None where it has none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    site: str = ""
    site_hash: str = ""
    seq: int = 0
    at: datetime | None = None
    run: RunRow | None = None
    runs: tuple[RunRow, ...] = ()
    rounds: tuple[RoundRow, ...] = ()
    start: str = ""
    devices: dict[str, DeviceRow] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    proofs: dict[str, Isolation] = field(default_factory=dict)
    audits: dict[str, Audit] = field(default_factory=dict)
    models: Epsilon | None = None
    totals: Totals = field(default_factory=Totals)

    @classmethod
    def enrolled(
        cls, site: str, devices: Iterable[str], *, epsilon_limit: float | None = None, site_hash: str = ""
    ) -> FederationState:
        """Before any event: the site's devices, of which nothing is known yet."""
        rows = {name: DeviceRow(name=name, epsilon=Epsilon(limit=epsilon_limit)) for name in devices}
        return cls(site=site, site_hash=site_hash, devices=rows)

    def apply(self, event: Event) -> FederationState:
        """The state after the event. Events at or before `seq` change nothing: a resumed stream may repeat itself."""
        if event.seq <= self.seq:
            return self
        state = evolve(self, seq=event.seq, at=event.at)
        body = event.body
        match body:
            case RunStarted():
                return state._run_started(body, event)
            case RunFinished():
                return state._run_finished(body, event)
            case RoundStarted():
                return state._round_started(body, event)
            case RoundFinished() | RoundSkipped():
                return state._round_ended(body, event)
            case (
                StartChosen()
                | AuditFinished()
                | ModelPrivacySpent()
                | IsolationProven(role="coordinator" | "watcher")
                | IsolationDrift(role="coordinator")
            ):
                return state._noted(body, event)
            case CertificateIssued():
                return state._issued(Certificate.of(body))
            case CertificateRevoked():
                return state._revoked(body)
        device = getattr(body, "device", None)
        if isinstance(device, str):
            state = state._of_device(device, event)
        return state._counted(event)._in_round(event)

    def _of_device(self, name: str, event: Event) -> FederationState:
        if (
            name in self.proofs and isinstance(event.body, DeviceState) and event.body.state == "removed"
        ):  # it watched, and has left
            return evolve(self, proofs={host: proof for host, proof in self.proofs.items() if host != name})
        row = self.devices.get(name) or DeviceRow(name=name)
        return evolve(self, devices={**self.devices, name: row.after(event)})

    def apply_all(self, events: Iterable[Event]) -> FederationState:
        """The state after all of them, in order."""
        state = self
        for event in events:
            state = state.apply(event)
        return state

    def as_dict(self, *, updates: bool = True) -> dict[str, Any]:
        """The state as JSON values; `updates=False` leaves out each round's single updates."""
        return dict(json.loads(self.to_json(updates=updates)))

    @property
    def models_budget(self) -> Epsilon | None:
        """What the models have spent and may; None where the last run protected something else, and nothing hangs on it."""
        return self.models if self.run is not None and self.run.privacy.get("mode") == "client" else None

    def to_json(self, *, updates: bool = True) -> bytes:
        """The state as JSON."""
        return _adapter().dump_json(self, exclude=None if updates else {"rounds": {"__all__": {"updates"}}})

    @classmethod
    def from_json(cls, text: bytes | str) -> FederationState:
        """What `to_json` wrote; ValueError when it is something else."""
        return _adapter().validate_json(text)

    def _noted(
        self, body: StartChosen | AuditFinished | ModelPrivacySpent | IsolationProven | IsolationDrift, event: Event
    ) -> FederationState:
        if isinstance(body, StartChosen):
            return evolve(self, start=body.model)
        if isinstance(body, IsolationProven):
            return evolve(self, proofs={**self.proofs, body.device: Isolation.of(body, event)})
        if isinstance(body, IsolationDrift):
            shaken = Isolation.shaken(self.proofs.get(body.device), body, event)
            return evolve(self, proofs={**self.proofs, body.device: shaken})
        if isinstance(body, ModelPrivacySpent):
            spent = Epsilon(body.spent, body.limit, body.delta, body.sigma, 1.0, body.run_spent, body.rounds_left)
            return evolve(self, models=spent)._in_round(event)
        found = Audit(body.at, body.who, body.passed, body.says, dict(body.figures), body.site_hash)
        return evolve(self, audits={**self.audits, body.audit: found})

    def _run_started(self, body: RunStarted, event: Event) -> FederationState:
        resumed = self.run is not None and self.run.id == event.run
        goes_on = self.run is not None and bool(body.resumes) and body.resumes in {self.run.id, self.run.resumes}
        before = () if resumed or self.run is None else (self.run,)
        rows = dict(self.devices)
        for name in body.devices:
            rows[name] = evolve(rows.get(name) or DeviceRow(name=name), judged=bool(body.policy))
        run = RunRow.begun(body, event)
        if resumed and self.run is not None:
            run = evolve(run, started=self.run.started)
        return evolve(
            self,
            site=body.site,
            site_hash=body.site_hash,
            run=run,
            runs=(*self.runs, *before)[-_RUNS_KEPT:],
            rounds=tuple(row for row in self.rounds if row.number < body.first_round) if resumed or goes_on else (),
            start="" if body.start == self.start and not body.resumes else self.start,
            devices=rows,
            totals=self.totals if resumed else evolve(self.totals, runs=self.totals.runs + 1),
        )

    def _run_finished(self, body: RunFinished, event: Event) -> FederationState:
        if self.run is None or self.run.id != event.run:
            ended = tuple(row.ended(body, event) if row.id == event.run else row for row in self.runs)
            return evolve(self, runs=ended)
        return evolve(self, run=self.run.ended(body, event), devices=self._at_rest(""))

    def _round_started(self, body: RoundStarted, event: Event) -> FederationState:
        rows = self._at_rest("waiting")
        for name in body.devices:
            rows[name] = (rows.get(name) or DeviceRow(name=name)).settled(activity="training")
        if self.run is None or self.run.id != event.run:
            return evolve(self, devices=rows)
        earlier = [row for row in self.rounds if row.number != event.round]
        if len(earlier) >= _DETAILED:
            earlier[-_DETAILED] = evolve(earlier[-_DETAILED], updates={})
        # A run that goes on from another has its rounds, but chose its devices itself.
        since = max([self.run.started, *(row.finished for row in earlier[-1:] if row.finished)])
        return evolve(self, devices=rows, rounds=(*earlier, RoundRow.begun(body, event, since))[-_ROUNDS_KEPT:])

    def _round_ended(self, body: RoundFinished | RoundSkipped, event: Event) -> FederationState:
        totals = self.totals
        if isinstance(body, RoundFinished):
            seconds = {**totals.seconds, **{s: totals.seconds.get(s, 0.0) + spent for s, spent in body.seconds.items()}}
            totals = evolve(totals, rounds=totals.rounds + 1, seconds=seconds)
        else:
            totals = evolve(totals, rounds_skipped=totals.rounds_skipped + 1)
        return evolve(self, totals=totals, devices=self._at_rest("waiting"))._in_round(event)

    def _at_rest(self, activity: str) -> dict[str, DeviceRow]:
        """Every device that was busy is so no more; those that nobody asked keep what they were."""
        return {name: row.settled(activity=activity) if row.activity else row for name, row in self.devices.items()}

    def _in_round(self, event: Event) -> FederationState:
        if not event.round or self.run is None or self.run.id != event.run:
            return self
        for place in range(len(self.rounds) - 1, -1, -1):
            row = self.rounds[place]
            if row.number == event.round:
                after = row.after(event)
                rounds = self.rounds if after is row else (*self.rounds[:place], after, *self.rounds[place + 1 :])
                return evolve(self, rounds=rounds)
        return self

    def _counted(self, event: Event) -> FederationState:
        totals = self.totals
        match event.body:
            case UpdateReceived() as body:
                return evolve(
                    self,
                    totals=evolve(
                        totals,
                        updates=totals.updates + 1,
                        bytes_up=totals.bytes_up + body.bytes_up,
                        bytes_down=totals.bytes_down + body.bytes_down,
                    ),
                )
            case UpdateRejected():
                return evolve(self, totals=evolve(totals, updates_rejected=totals.updates_rejected + 1))
            case FlagRaised() as body:
                flags = {**totals.flags, body.rule: totals.flags.get(body.rule, 0) + 1}
                return evolve(self, totals=evolve(totals, flags=flags))
        return self

    def _issued(self, certificate: Certificate) -> FederationState:
        before = self.certificates.get(f"{certificate.role}/{certificate.subject}")
        if before is not None:
            again = before.serial == certificate.serial
            certificate = evolve(certificate, rotations=before.rotations + (not again))
        return self._certificate(certificate)

    def _certificate(self, certificate: Certificate) -> FederationState:
        known = {**self.certificates, f"{certificate.role}/{certificate.subject}": certificate}
        if certificate.role != "device":
            return evolve(self, certificates=known)
        row = self.devices.get(certificate.subject) or DeviceRow(name=certificate.subject)
        return evolve(
            self, certificates=known, devices={**self.devices, certificate.subject: evolve(row, certificate=certificate)}
        )

    def _revoked(self, body: CertificateRevoked) -> FederationState:
        for certificate in self.certificates.values():
            if certificate.serial == body.serial:
                return self._certificate(evolve(certificate, revoked=body.reason or "revoked"))
        return self


@cache
def _adapter() -> TypeAdapter[FederationState]:
    return TypeAdapter(FederationState)
