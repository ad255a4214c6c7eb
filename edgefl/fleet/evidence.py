"""A proof as a value: what was probed and seen, signed by the operator, compared with the proof before it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edgefl.errors import EdgeflError, ExitCode, NotProvisioned
from edgefl.events.schema import IsolationProven
from edgefl.fleet.probes import OPERATOR, Probe
from edgefl.infra.inventory import Host


class ProofInvalid(EdgeflError):
    """A stored proof is not what the operator signed."""

    exit_code = ExitCode.NOT_ISOLATED


Observed = Literal["open", "refused", "leaking", "unanswered", "closed", "unknown"]
"""`refused`: the way is free, though nobody listens at its end. `leaking`: a packet left the host, and nobody answered.
`unanswered`: the site allows the path, this host let it out, and nobody answered. `unknown`: the probe could not be made.
Only `closed` is isolated, only `open` is of use."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a probe saw, and by what evidence."""

    probe: Probe
    observed: Observed
    evidence: str

    @property
    def is_as_expected(self) -> bool:
        """Whether the path is what the site says."""
        if self.probe.expected == "allowed":
            return self.observed in ("open", "unanswered")
        return self.observed == self.probe.expected

    def __str__(self) -> str:
        return f"{self.probe.id} is {self.observed} ({self.evidence}) and must be {self.probe.expected}"


@dataclass(frozen=True, slots=True)
class Proof:
    """Every result of one verification. at: ISO 8601, UTC. previous: SHA-256 of the proof before it, or empty."""

    site: str
    at: str
    results: tuple[Result, ...]
    previous: str = ""

    @property
    def breaches(self) -> tuple[Result, ...]:
        """What is not as the site says; empty when the site is proven isolated."""
        return tuple(result for result in self.results if not result.is_as_expected)

    def of(self, host: str) -> tuple[Result, ...]:
        """The results of the probes from this host, and of the operator's into it."""
        return tuple(r for r in self.results if r.probe.host == host or (r.probe.host == OPERATOR and r.probe.target == host))

    def canonical(self) -> bytes:
        """The bytes that are signed: JSON with sorted keys and no spaces."""
        results = [asdict(result) for result in self.results]
        said = {"site": self.site, "at": self.at, "previous": self.previous, "results": results}
        return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def sha256(self) -> str:
        """The proof's identity."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def events(self, hosts: Iterable[Host]) -> list[IsolationProven]:
        """One event for the journal of each of these hosts that was probed."""
        made = []
        for host in hosts:
            if not (results := self.of(host.name)):
                continue
            wrong = [result for result in results if not result.is_as_expected]
            made.append(
                IsolationProven(
                    device=host.name,
                    role=host.role,
                    probes=len(results),
                    open_forbidden=[result.probe.id for result in wrong if result.probe.expected == "closed"],
                    closed_required=[result.probe.id for result in wrong if result.probe.expected != "closed"],
                    proof_sha256=self.sha256,
                    paths=_paths(results),
                )
            )
        return made


def _paths(results: Iterable[Result]) -> dict[str, tuple[int, int, int]]:
    """A host's row of the matrix: see IsolationProven."""
    found: dict[str, tuple[int, int, int]] = {}
    for result in results:
        kind = "inbound" if result.probe.host == OPERATOR else result.probe.kind
        wrong, opened, closed = found.get(kind, (0, 0, 0))
        must_be_closed = result.probe.expected == "closed"
        found[kind] = (wrong + (not result.is_as_expected), opened + (not must_be_closed), closed + must_be_closed)
    return found


def changes(before: Proof, after: Proof) -> list[tuple[Probe, str, str]]:
    """The paths of both proofs that are not what they were: probe, what it was, what it is."""
    was = {result.probe.id: result.observed for result in before.results}
    return [(r.probe, was[r.probe.id], r.observed) for r in after.results if was.get(r.probe.id, r.observed) != r.observed]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A proof beside the one before it. changed: what paths were and are; new, gone: how many paths only one of them tried."""

    since: str
    changed: tuple[str, ...]
    new: int
    gone: int

    def __str__(self) -> str:
        told = {"changed": len(self.changed), "new": self.new, "not tried again": self.gone}
        what = ", ".join(f"{count} {word}" for word, count in told.items() if count) or "nothing changed"
        return f"paths since {self.since[:19].replace('T', ' ')} UTC: {what}"


def compared(before: Proof, after: Proof) -> Comparison:
    """What is otherwise than in the proof before."""
    was, are = ({result.probe.id for result in proof.results} for proof in (before, after))
    changed = tuple(f"{probe.id} was {then} and is {now_}" for probe, then, now_ in changes(before, after))
    return Comparison(before.at, changed, len(are - was), len(was - are))


def now() -> str:
    """The time that a proof bears."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def save(proof: Proof, state: Path) -> Path:
    """Sign the proof with the operator's key and keep it in `state`/proofs. Raises NotProvisioned when there is no key yet."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    identity = state / "operator"
    try:
        key = serialization.load_pem_private_key((identity / "operator.key").read_bytes(), None)
        certificate = (identity / "operator.crt").read_text()
    except FileNotFoundError as error:
        raise NotProvisioned("the operator has no key to sign proofs with", hint="edgefl up") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ProofInvalid(f"{identity / 'operator.key'} is no ECDSA key", hint="remove it, then edgefl up")
    signature = base64.b64encode(key.sign(proof.canonical(), ec.ECDSA(hashes.SHA256()))).decode()
    directory = state / "proofs"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"{proof.at.replace(':', '-').replace('+00-00', 'Z')}.json"
    document = {
        "proof": json.loads(proof.canonical()),
        "sha256": proof.sha256,
        "signature": signature,
        "certificate": certificate,
    }
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    fresh.rename(path)
    return path


def load(path: Path, authority: Path) -> Proof:
    """Read a proof and check that an operator of this site signed it. authority: the site's root and issuing certificates, PEM.

    Raises ProofInvalid when it was altered, or was signed by somebody else.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        document = json.loads(path.read_text())
        proof = _proof(document["proof"])
        signer = x509.load_pem_x509_certificate(document["certificate"].encode())
        key = signer.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ProofInvalid(f"{path} was signed with something else than ECDSA")
        key.verify(base64.b64decode(document["signature"]), proof.canonical(), ec.ECDSA(hashes.SHA256()))
        issuers = x509.load_pem_x509_certificates(authority.read_bytes())
    except InvalidSignature as error:
        raise ProofInvalid(f"{path} was altered after it was signed", hint="edgefl verify makes a new one") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProofInvalid(f"{path} cannot be read as a proof: {error!r}", hint="edgefl verify makes a new one") from error
    if not any(_issued(signer, issuer) for issuer in issuers):
        raise ProofInvalid(f"{path} was not signed by an operator of this site", hint="edgefl verify makes a new one")
    return proof


def latest(state: Path, sha256: str = "") -> Proof | None:
    """The newest proof whose signature holds up, or that of this hash; None when the site was never proven, or it is gone."""
    for path in sorted((state / "proofs").glob("*.json"), reverse=True):
        try:
            proof = load(path, state / "operator" / "ca.crt")
        except ProofInvalid:
            continue  # e.g. of a root that was replaced: it proves nothing any more
        if sha256 in ("", proof.sha256):
            return proof
    return None


def _proof(said: dict[str, Any]) -> Proof:
    results = tuple(Result(Probe(**result["probe"]), result["observed"], result["evidence"]) for result in said["results"])
    return Proof(said["site"], said["at"], results, said["previous"])


def _issued(certificate: Any, issuer: Any) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
