"""What an audit's events say in a line each: who did what to what, and why."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from edgefl.console.ink import Tone
from edgefl.events.schema import (
    AuditFinished,
    CertificateIssued,
    CertificateRefused,
    CertificateRevoked,
    DeviceJudged,
    EnrolmentOpened,
    EnrolmentRefused,
    EnrolmentUsed,
    Event,
    IsolationDrift,
    IsolationProven,
    OperatorAction,
    PrivacyRefused,
    RunFinished,
    RunStarted,
    StartChosen,
)

AUTHORITY, POLICY, PROBES, WATCHER, COORDINATOR = "authority", "policy", "probes", "watcher", "coordinator"
"""Who acts where no operator does."""
_LATE_S = 60


@dataclass(frozen=True, slots=True)
class Deed:
    """An event as the audit lists it. tone: whether the action is one to worry about."""

    event: Event
    who: str
    action: str
    subject: str
    why: str
    tone: Tone = Tone.PLAIN

    def fields(self) -> Mapping[str, str]:
        """What a filter sees of it."""
        return {"who": self.who, "action": self.action, "subject": self.subject, "why": self.why, "seq": str(self.event.seq)}


def deed(event: Event) -> Deed:
    """The event in a line; of a kind that no audit asks for, its name."""
    match event.body:
        case OperatorAction() as body:
            return Deed(event, body.who, body.action, body.subject, _told(body, event), Tone.STRONG)
        case StartChosen() as body:
            return Deed(event, body.who, "choose start", body.model or "the task's own model", body.why, Tone.STRONG)
        case AuditFinished() as body:
            sign, tone = ("✓", Tone.GOOD) if body.passed else ("✖", Tone.BAD)
            return Deed(event, body.who, f"{sign} audit", body.audit, body.says, tone)
        case DeviceJudged() as body:
            tone = Tone.GOOD if body.conduct == "trusted" else Tone.WARN if body.conduct != "quarantined" else Tone.BAD
            return Deed(event, POLICY, f"{body.before} → {body.conduct}", body.device, body.reason, tone)
        case PrivacyRefused() as body:
            return Deed(event, body.device, "✖ budget refused", f"round {event.round}", body.reason, Tone.BAD)
        case CertificateIssued() as body:
            until = f"{body.role}, until {body.not_after:%Y-%m-%d %H:%M} UTC"
            return Deed(event, AUTHORITY, "certificate issued", body.subject, until)
        case CertificateRefused() as body:
            why = body.reason + (f", {body.times} times" if body.times > 1 else "")
            return Deed(event, COORDINATOR, "✖ renewal refused", body.subject, why, Tone.WARN)
        case CertificateRevoked() as body:
            return Deed(event, AUTHORITY, "certificate revoked", body.subject, body.reason, Tone.WARN)
    return _of_enrolment(event)


def _of_enrolment(event: Event) -> Deed:
    match event.body:
        case EnrolmentOpened() as body:
            until = f"until {event.at + timedelta(seconds=body.valid_s):%Y-%m-%d %H:%M} UTC"
            return Deed(event, body.who, "token given out", body.subject, "; ".join(filter(None, (body.why, until))), Tone.STRONG)
        case EnrolmentUsed() as body:
            return Deed(event, body.subject, "came in by its token", body.subject, f"from {body.source}")
        case EnrolmentRefused() as body:
            return Deed(event, body.source, "✖ enrolment refused", body.subject, body.reason, Tone.BAD)
    return _of_run(event)


def _told(body: OperatorAction, event: Event) -> str:
    """Why it was done; what failed of it; and when it was, where the journal could only be told later."""
    parts = [body.why, f"✖ {body.detail['failed']}" if body.detail.get("failed") else ""]
    with suppress(TypeError, ValueError):
        done = datetime.fromisoformat(str(body.detail.get("at", "")))
        if (event.at - done).total_seconds() > _LATE_S:
            parts.append(f"at {done.astimezone():%Y-%m-%d %H:%M:%S}, told later")
    return "; ".join(part for part in parts if part)


def _of_run(event: Event) -> Deed:
    match event.body:
        case IsolationProven() as body:
            wrong = [f"open: {name}" for name in body.open_forbidden] + [f"closed: {name}" for name in body.closed_required]
            sign, tone = ("✖ isolation broken", Tone.BAD) if wrong else ("✓ isolation proven", Tone.GOOD)
            return Deed(event, PROBES, sign, body.device, ", ".join(wrong) or f"{body.probes} probes", tone)
        case IsolationDrift() as body:
            sign, tone = ("walls healed", Tone.WARN) if body.healed else ("✖ walls changed", Tone.BAD)
            why = ", ".join(body.found) + (f", {body.times} times" if body.times > 1 else "")
            return Deed(event, WATCHER, sign, body.device, why, tone)
        case RunStarted() as body:
            what = f"{body.task}, {body.rounds} rounds of {len(body.devices)} devices, {body.rule}"
            return Deed(event, COORDINATOR, "run started", f"run {event.run}", what)
        case RunFinished() as body:
            tone = {"completed": Tone.GOOD, "stopped": Tone.WARN, "failed": Tone.BAD}[body.status]
            sign = {"completed": "✓ ", "failed": "✖ "}.get(body.status, "")
            return Deed(event, COORDINATOR, f"{sign}run {body.status}", f"run {event.run}", body.reason, tone)
    return Deed(event, "", event.body.type, "", "")
