"""Who is trusted, what privacy has cost, and whether identities and walls hold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from prometheus_client.core import Metric

from edgefl.monitor.families.sample import counters, gauge, gauges
from edgefl.monitor.status import Status
from edgefl.site.robustness import RULES

_RULES = frozenset({*RULES, "ledger"})
_AUC = "auc@"


def families(status: Status) -> Iterable[Metric]:
    """Everything about trust and privacy."""
    yield from _trust(status)
    yield from _privacy(status)
    yield from _audits(status)
    yield from _identities(status)


def _trust(status: Status) -> Iterable[Metric]:
    rows = status.state.devices.values()
    flags: dict[str, float] = {}
    for rule, number in sorted(status.state.totals.flags.items()):
        known = rule if rule in _RULES else "other"  # what a task's own server writes must not make a series each
        flags[known] = flags.get(known, 0.0) + number
    yield counters("fl_flags", "Findings about updates, by rule.", ("rule",), flags)
    found = {row.name: float(row.flag_count) for row in rows}
    yield counters("fl_device_flags", "Findings about the device's updates.", ("device",), found)
    last = next((row for row in reversed(status.state.rounds) if row.state == "finished"), None)
    updates = last.updates if last else {}
    scores = {name: update.score for name, update in updates.items()}
    limits = {name: update.threshold for name, update in updates.items()}
    yield gauges("fl_device_anomaly_score", "How much the device's last update stood out.", ("device",), scores)
    yield gauges("fl_device_anomaly_threshold", "Score above which it would be flagged.", ("device",), limits)
    yield gauges(
        "fl_device_reputation", "Trust in the device, from 0 to 1.", ("device",), {row.name: row.reputation for row in rows}
    )
    out = {row.name: float(row.state == "quarantined") for row in rows}
    yield gauges("fl_device_quarantined", "Whether the device is kept from rounds.", ("device",), out)
    drained = {row.name: float(row.standing == "drained") for row in rows}
    yield gauges("fl_device_drained", "Whether the operator has no round ask the device.", ("device",), drained)


def _privacy(status: Status) -> Iterable[Metric]:
    ledgers = {row.name: row.epsilon for row in status.state.devices.values()}
    spent = {name: ledger.spent for name, ledger in ledgers.items()}
    limits = {name: ledger.limit for name, ledger in ledgers.items()}
    left = {name: ledger.rounds_left for name, ledger in ledgers.items()}
    refused = {name: float(bool(ledger.refused)) for name, ledger in ledgers.items()}
    yield gauges("fl_privacy_epsilon_spent", "Epsilon that the device's ledger has spent.", ("device",), spent)
    yield gauges("fl_privacy_epsilon_limit", "Most epsilon that the device will ever spend.", ("device",), limits)
    yield gauges("fl_privacy_rounds_left", "Rounds at this rate until the device refuses.", ("device",), left)
    yield gauges("fl_privacy_refused", "Whether the device refused its last round, for its ledger.", ("device",), refused)
    models = status.state.models_budget
    spent_by_models, most, rounds = (models.spent, models.limit, models.rounds_left) if models else (None, None, None)
    yield gauge("fl_privacy_models_epsilon_spent", "Epsilon that the coordinator's ledger has spent.", spent_by_models)
    yield gauge("fl_privacy_models_epsilon_limit", "Most epsilon that the models may ever spend.", most)
    yield gauge("fl_privacy_models_rounds_left", "Rounds at this rate until no run gives out a model any more.", rounds)


def _audits(status: Status) -> Iterable[Metric]:
    audits = status.state.audits
    passed = {kind: float(audit.passed) for kind, audit in audits.items()}
    ended = {kind: audit.at.astimezone(UTC).timestamp() for kind, audit in audits.items()}
    yield gauges("fl_audit_passed", "Whether no more leaked than the claimed epsilon allows.", ("audit",), passed)
    yield gauges("fl_audit_timestamp_seconds", "When the last audit ended, in Unix time.", ("audit",), ended)
    figures = audits["membership"].figures if "membership" in audits else {}
    tried = {name.removeprefix(_AUC): value for name, value in figures.items() if name.startswith(_AUC)}
    auc = {claim: value for claim, value in tried.items() if _is_epsilon(claim)}
    yield gauges("fl_audit_membership_auc", "How well members are told from others, by the epsilon audited.", ("epsilon",), auc)


def _is_epsilon(claim: str) -> bool:
    """Whether it is a number above 0 as an audit writes it, `inf` included: whatever else a figure is called makes no series."""
    try:
        value = float(claim)
    except ValueError:
        return False
    return value > 0 and f"{value:g}" == claim


def _identities(status: Status) -> Iterable[Metric]:
    state = status.state
    proofs = {**state.proofs, **{row.name: row.isolation for row in state.devices.values()}}
    proven = {host: proof for host, proof in proofs.items() if proof is not None}
    ages = {host: (status.now - proof.at).total_seconds() for host, proof in proven.items()}
    holding = {host: float(proof.holds) for host, proof in proven.items()}
    wrong = {host: float(len(proof.open_forbidden) + len(proof.closed_required)) for host, proof in proven.items()}
    yield gauges("fl_isolation_proof_age_seconds", "Time since the host was probed.", ("device",), ages)
    yield gauges(
        "fl_isolation_proven",
        "Whether the last probes found what they must, and the walls are the same since.",
        ("device",),
        holding,
    )
    yield gauges(
        "fl_isolation_wrong_paths", "Paths that the last probes found open or closed against the site.", ("device",), wrong
    )
    valid = {(one.subject, one.role): one for one in state.certificates.values() if not one.revoked}
    ends = {labels: one.not_after.astimezone(UTC).timestamp() for labels, one in valid.items()}
    lives = {labels: (one.not_after - one.not_before).total_seconds() for labels, one in valid.items()}
    both = ("subject", "role")
    yield gauges("fl_certificate_expiry_timestamp_seconds", "When the newest certificate ends, in Unix time.", both, ends)
    yield gauges("fl_certificate_life_seconds", "How long the newest certificate is valid in all.", both, lives)
