"""What in a federation needs an operator's attention, and what to do about it: a pure function of its status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from edgefl.monitor.device import Certificate, DeviceRow, Epsilon, Isolation
from edgefl.monitor.status import Status
from edgefl.pki.lifetime import standing

BUDGET_LOW = 0.9
"""Share of the epsilon limit from which a device's budget counts as nearly gone."""


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that needs attention. subject: a device's name, or a part of the coordinator."""

    subject: str
    what: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def concerns(status: Status) -> list[Concern]:
    """Everything that needs attention, the coordinator first, then devices in the site's order; empty when all is well."""
    found = list(_of_coordinator(status))
    for row in status.state.devices.values():
        if row.state != "removed":
            found += _of_device(row, status)
    return found


def _of_coordinator(status: Status) -> Iterator[Concern]:
    if status.journal:
        yield Concern(
            "journal", status.journal, "keep the coordinator's journal as evidence" if status.broken_seq else "edgefl logs"
        )
    if status.superlink:
        yield Concern("superlink", status.superlink, "edgefl logs")
    run = status.state.run
    if run is not None and run.status == "failed":
        yield Concern(f"run {run.id}", f"failed: {run.reason}", "edgefl logs")
    spent = status.state.models_budget
    if spent is not None and _nearly_spent(spent):
        what = f"have nearly spent their privacy budget: ε {spent.spent:.2f} of {spent.limit:g}"
        yield Concern("the models", what, "raise privacy.epsilon_limit, or keep the last model")
    for kind, audit in status.state.audits.items():
        if not audit.passed:
            yield Concern(f"{kind} audit", audit.says, f"edgefl audit {kind}")
    for name, proof in status.state.proofs.items():
        yield from _of_isolation(name, proof)
    for certificate in status.state.certificates.values():
        if certificate.role in {"gate", "superlink", "renewal"} and (what := _certificate(certificate, status.now)):
            yield Concern(certificate.subject, f"the {certificate.role}'s certificate {what}", "edgefl up")


def _of_device(row: DeviceRow, status: Status) -> Iterator[Concern]:
    run = status.state.run
    yield from _of_presence(row, status.now)
    here = [flag for flag in row.flags if run is not None and flag.run == run.id]
    if row.suspect or here:
        rounds = f" in {len(here)} of run {run.id}'s rounds" if here and run is not None else ""
        why = f": {row.flags[-1].reason}" if row.flags else _because(row.detail)
        yield Concern(row.name, f"was flagged{rounds}{why}", f"edgefl devices {row.name}")
    if row.epsilon.refused:
        yield Concern(
            row.name, f"refused its last round: {row.epsilon.refused}", "raise privacy.epsilon_limit or go on without it"
        )
    elif _nearly_spent(row.epsilon):
        spent = f"ε {row.epsilon.spent:.2f} of {row.epsilon.limit:g}"
        yield Concern(row.name, f"has nearly spent its privacy budget: {spent}", f"edgefl devices {row.name}")
    if row.certificate is not None and (what := _certificate(row.certificate, status.now)):
        yield Concern(row.name, f"its certificate {what}", "edgefl up")
    yield from _of_isolation(row.name, row.isolation)


def _of_isolation(host: str, proof: Isolation | None) -> Iterator[Concern]:
    if proof is None:
        return
    if proof.drift is not None:
        healed = "it is healed" if proof.drift.healed else "it is NOT healed"
        what = f"{', '.join(proof.drift.found)} ({proof.drift.at:%Y-%m-%d %H:%M:%S} UTC); {healed}, and not proven since"
        yield Concern(host, what, "edgefl verify" if proof.drift.healed else "edgefl up")
    if proof.open_forbidden or proof.closed_required:
        reached = [*(f"reaches {place}" for place in proof.open_forbidden)]
        missed = [*(f"does not reach {place}" for place in proof.closed_required)]
        yield Concern(host, f"is not isolated as it must be: {', '.join([*reached, *missed])}", "edgefl verify")


def _nearly_spent(budget: Epsilon) -> bool:
    return bool(budget.limit) and (budget.share >= BUDGET_LOW or budget.rounds_left == 0)


def _of_presence(row: DeviceRow, now: datetime) -> Iterator[Concern]:
    if row.standing == "quarantined":
        yield Concern(row.name, f"is quarantined{_because(row.detail)}", f"edgefl release {row.name} --why TEXT")
    elif row.conduct == "quarantined":
        why = _because(row.detail)
        yield Concern(row.name, f"is left out of rounds{why}", f"edgefl devices {row.name}; edgefl run --pardon {row.name}")
    elif row.state == "offline":
        yield Concern(row.name, f"is offline{_since(row, now)}", f"edgefl doctor {row.name}")
    elif row.state == "enrolled":
        yield Concern(row.name, "has not come online yet", f"edgefl doctor {row.name}")
    if row.unfit:
        yield Concern(row.name, f"was left out of the last up: {row.unfit}", "edgefl up takes it in when it is well again")


def _certificate(certificate: Certificate, now: datetime) -> str:
    if certificate.revoked:
        return f"is revoked: {certificate.revoked}"
    match standing(certificate.not_before, certificate.not_after, now):
        case "expired":
            return f"expired at {certificate.not_after:%Y-%m-%d %H:%M} UTC"
        case "near expiry":
            left = certificate.not_after - now
            return f"ends in {left.total_seconds() / 3600:.1f} h and was not renewed"
    return ""


def _since(row: DeviceRow, now: datetime) -> str:
    if row.seen is None:
        return ""
    minutes = (now - row.seen).total_seconds() / 60
    return f" for {minutes:.0f} min" if minutes >= 1 else " for less than a minute"


def _because(detail: str) -> str:
    return f": {detail}" if detail else ""
