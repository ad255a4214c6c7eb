"""What is said of hosts, their certificates and walls, and of what operators do to them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from edgefl.events.body import Body


class DeviceState(Body):
    """A device came, went or was set aside. drained: no round asks it, and nothing else changes; undrained: it is asked again."""

    type: Literal["device_state"] = "device_state"
    device: str
    state: Literal[
        "enrolled", "online", "offline", "training", "waiting", "suspect", "quarantined", "drained", "undrained", "removed"
    ]
    detail: str = ""


class DeviceFacts(Body):
    """What a device is, as the last provisioning saw it."""

    type: Literal["device_facts"] = "device_facts"
    device: str
    architecture: str
    cores: float
    memory_mb: int
    address: str
    release: str = ""
    distribution: Annotated[str, Field(max_length=80)] = ""
    accelerators: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=20)] = Field(default_factory=list)


class DeviceFitness(Body):
    """Whether the last provisioning took a device in; `why` says what kept it out and is empty when nothing does."""

    type: Literal["device_fitness"] = "device_fitness"
    device: str
    why: str = ""


class CertificateIssued(Body):
    """An authority of the site signed a certificate. issuer: `issuing`, the operator's, or `renewal`, the coordinator's.

    key_sha256: of the public key (SubjectPublicKeyInfo); empty where it is not known.
    """

    type: Literal["certificate_issued"] = "certificate_issued"
    subject: str
    role: str
    serial: str
    not_before: datetime
    not_after: datetime
    issuer: str = "issuing"
    key_sha256: str = ""


class CertificateRevoked(Body):
    """A certificate no longer opens anything."""

    type: Literal["certificate_revoked"] = "certificate_revoked"
    subject: str
    serial: str
    reason: str


class CertificateRefused(Body):
    """A host asked for a successor of its certificate and got none. times: how often since this was told of it last."""

    type: Literal["certificate_refused"] = "certificate_refused"
    subject: Annotated[str, Field(max_length=200)]
    role: Annotated[str, Field(max_length=40)]
    reason: Annotated[str, Field(max_length=300)]
    times: Annotated[int, Field(ge=1)] = 1


class IsolationProven(Body):
    """A host was probed; `open_forbidden` and `closed_required` are empty when the proof holds. device: the host's name.

    paths: by kind of destination, and `inbound` for the ways into the host, how many paths are not as they must be, how many
    must be open, and how many closed.
    """

    type: Literal["isolation_proven"] = "isolation_proven"
    device: str
    role: Literal["device", "coordinator", "watcher"] = "device"
    probes: int
    open_forbidden: list[str]
    closed_required: list[str]
    proof_sha256: str
    paths: dict[str, tuple[int, int, int]] = Field(default_factory=dict)


class OperatorAction(Body):
    """Who did what to what, and why: the audit log's entry."""

    type: Literal["operator_action"] = "operator_action"
    who: str
    action: str
    subject: str = ""
    why: str = ""
    detail: dict[str, Any] = Field(default_factory=dict)


class AuditFinished(Body):
    """An operator attacked the task on purpose, on data of its kind; the report lies with the operator.

    figures: e.g. `auc@4`, `epsilon_low@4` (membership, at epsilon 4), `psnr@clipped` (inversion). passed: no more leaked than
    the claimed epsilon allows. at: when it ended.
    """

    type: Literal["audit_finished"] = "audit_finished"
    who: Annotated[str, Field(max_length=200)] = ""
    audit: Literal["membership", "inversion", "baseline"]
    passed: bool
    says: Annotated[str, Field(max_length=1000)]
    figures: Annotated[dict[Annotated[str, Field(max_length=80)], float], Field(max_length=100)] = Field(default_factory=dict)
    at: datetime
    site_hash: Annotated[str, Field(max_length=64)] = ""
    report_sha256: Annotated[str, Field(max_length=64)] = ""
