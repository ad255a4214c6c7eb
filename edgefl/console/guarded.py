"""The rows of Security's three tables, flags, certificates and isolation proofs: their columns, and each field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgefl.console import figures
from edgefl.console.ink import Ink, Tone, ink, join, plain
from edgefl.console.live import Frame
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.states import certificate_ink, state_ink
from edgefl.monitor.device import Certificate, DeviceRow, Flag, Isolation


@dataclass(frozen=True, slots=True)
class Finding:
    """A flag, and the device that it is about as it stands now."""

    device: DeviceRow
    flag: Flag

    @property
    def key(self) -> str:
        """What tells it from every other: `edge-07/4/12/guard`."""
        return f"{self.device.name}/{self.flag.run}/{self.flag.round}/{self.flag.rule}"


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate at a frame's moment."""

    certificate: Certificate
    frame: Frame = field(compare=False)

    @property
    def name(self) -> str:
        """Whose it is."""
        return self.certificate.subject

    @property
    def issued_s(self) -> float | None:
        """Since it was issued."""
        return self.frame.age_s(self.certificate.not_before)

    @property
    def left_s(self) -> float:
        """Until it ends; negative once it has."""
        return (self.certificate.not_after - self.frame.now).total_seconds()


@dataclass(frozen=True, slots=True)
class Proof:
    """A host's last proof at a frame's moment; None where there was none."""

    name: str
    isolation: Isolation | None
    frame: Frame = field(compare=False)

    @property
    def age_s(self) -> float | None:
        """Since it was proven."""
        return self.frame.age_s(self.isolation.at if self.isolation else None)

    @property
    def wrong(self) -> list[str]:
        """The paths that are not as the site says."""
        found = self.isolation
        if found is None:
            return []
        return [f"open: {name}" for name in found.open_forbidden] + [f"closed: {name}" for name in found.closed_required]


def of_proof(row: Proof) -> Iterable[tuple[str, str]]:
    """A proof field by field."""
    yield "host", row.name
    yield "result", plain(_result(row, 0))
    if (found := row.isolation) is not None:
        yield "signed", f"{found.at.astimezone():%Y-%m-%d %H:%M:%S}"
        yield "probes", str(found.probes)
        yield "wrong", "\n".join(row.wrong) or "nothing"
        for kind, title in DESTINATIONS.items():
            if kind in found.paths:
                wrong, opened, closed = found.paths[kind]
                yield title.lower(), f"{opened} must be open, {closed} closed; {wrong or 'none'} not as it must be"
        yield "proof", found.proof_sha256


def of_certificate(row: Held) -> Iterable[tuple[str, str]]:
    """A certificate field by field."""
    one = row.certificate
    yield from (("subject", one.subject), ("role", one.role), ("serial", one.serial), ("status", plain(_status(row, 0))))
    yield "issued", f"{one.not_before.astimezone():%Y-%m-%d %H:%M:%S}"
    yield "expires", f"{one.not_after.astimezone():%Y-%m-%d %H:%M:%S}"
    yield "rotations", str(one.rotations)


def _result(row: Proof, _: int) -> Ink:
    if row.isolation is None:
        return ink("! not proven", Tone.WARN)
    if row.isolation.drift is not None and not row.isolation.open_forbidden:
        return ink("! changed", Tone.WARN) if row.isolation.drift.healed else ink("✖ changed", Tone.BAD)
    return ink("✓ holds", Tone.GOOD) if row.isolation.holds else ink("✖ broken", Tone.BAD)


def _wrong(row: Proof, _: int) -> Ink:
    return ink(", ".join(row.wrong), Tone.BAD) if row.wrong else ink("·", Tone.MUTED)


def _status(row: Held, _: int) -> Ink:
    if row.certificate.revoked:
        return ink(f"✖ revoked: {row.certificate.revoked}", Tone.BAD)
    return ink("✓ valid", Tone.GOOD) if row.left_s > 0 else ink("✖ expired", Tone.BAD)


_PEERS: Column[Finding] = Column(
    "peers",
    "SCORE AMONG PEERS",
    18,
    lambda row, cells: figures.strip(row.flag.score, row.flag.threshold, row.flag.peers, cells),
    lambda row: row.flag.score,
    importance=1,
    right=False,
    most=32,
    descending=True,
    raw=lambda row: row.flag.peers,
)
FLAGS: tuple[Column[Finding], ...] = (
    Column(
        "flag", "⚑ FLAG", 8, lambda row, _: ink(row.device.name, Tone.STRONG), lambda row: row.device.name,
        right=False, whole=True,
    ),
    Column("round", "ROUND", 5, lambda row, _: ink(str(row.flag.round)), lambda row: row.flag.round, descending=True),
    Column("rule", "RULE", 6, lambda row, _: ink(row.flag.rule), lambda row: row.flag.rule, 4, right=False),
    Column(
        "score", "SCORE", 5, lambda row, _: ink(figures.number(row.flag.score), Tone.BAD), lambda row: row.flag.score,
        descending=True,
    ),
    Column("limit", "LIMIT", 5, lambda row, _: ink(figures.number(row.flag.threshold)), lambda row: row.flag.threshold),
    _PEERS,
    Column("now", "NOW", 13, lambda row, _: state_ink(row.device.state), lambda row: row.device.state, 2, right=False),
    Column(
        "why", "WHY", 8, lambda row, _: ink(row.flag.reason, Tone.MUTED), lambda row: row.flag.reason, 3,
        right=False, most=60,
    ),
)  # fmt: skip
CERTIFICATES: tuple[Column[Held], ...] = (
    Column(
        "subject", "CERTIFICATE", 11, lambda row, _: ink(row.certificate.subject, Tone.STRONG),
        lambda row: row.certificate.subject, right=False, whole=True,
    ),
    Column("role", "ROLE", 9, lambda row, _: ink(row.certificate.role), lambda row: row.certificate.role, 1, right=False),
    Column(
        "ends", "ENDS IN", 7, lambda row, _: certificate_ink(row.certificate, row.left_s), lambda row: row.left_s, ages=True,
        raw=lambda row: row.certificate.not_after.isoformat(),
    ),
    Column(
        "status", "STATUS", 10, _status, lambda row: row.certificate.revoked, right=False, most=40,
        raw=lambda row: plain(_status(row, 0))[2:], ages=True,
    ),
    Column(
        "issued", "ISSUED", 6, lambda row, _: ink(figures.age(row.issued_s)), lambda row: row.issued_s, 2, ages=True,
        raw=lambda row: row.certificate.not_before.isoformat(),
    ),
    Column(
        "rotations", "ROTATED", 7, lambda row, _: ink(str(row.certificate.rotations or "·"), Tone.MUTED),
        lambda row: row.certificate.rotations, 3, descending=True,
    ),
    Column(
        "serial", "SERIAL", 16, lambda row, _: ink(row.certificate.serial, Tone.MUTED), lambda row: row.certificate.serial, 4,
        right=False, most=40,
    ),
)  # fmt: skip
DESTINATIONS: Mapping[str, str] = {
    "service": "GATE",
    "coordinator": "COORD.",
    "peers": "DEVICES",
    "internet": "INTERNET",
    "dns": "DNS",
    "loopback": "LOOPBACK",
    "operator": "OPERATOR",
    "allowed": "ALLOWED",
    "inbound": "INBOUND",
}
"""What a host's paths lead to, by what the journal calls it; `inbound` are the ways into the host."""


def _kind(kind: str, title: str, importance: int) -> Column[Proof]:
    """A column of the matrix: `1/12`, one path must be open and twelve closed; before it how many are not so."""

    def paths(row: Proof) -> tuple[int, int, int]:
        return row.isolation.paths.get(kind, (0, 0, 0)) if row.isolation else (0, 0, 0)

    def draw(row: Proof, _: int) -> Ink:
        wrong, opened, closed = paths(row)
        if not opened and not closed:
            return ink("·", Tone.MUTED)
        return join([ink(f"✖{wrong}" if wrong else "", Tone.BAD), ink(f"{opened}/{closed}")], ink(" "))

    return Column(kind, title, 6, draw, lambda row: paths(row)[0], importance, descending=True, raw=lambda row: list(paths(row)))


PROOFS: tuple[Column[Proof], ...] = (
    Column("host", "ISOLATION", 11, lambda row, _: ink(row.name, Tone.STRONG), lambda row: row.name, right=False, whole=True),
    Column("result", "RESULT", 12, _result, lambda row: row.isolation.holds if row.isolation else None, right=False),
    Column(
        "probes", "PROBES", 6, lambda row, _: ink(str(row.isolation.probes) if row.isolation else figures.NOTHING),
        lambda row: row.isolation.probes if row.isolation else None, 2,
    ),
    Column(
        "age", "SIGNED", 6, lambda row, _: ink(figures.age(row.age_s)), lambda row: row.age_s, 1, ages=True,
        raw=lambda row: row.isolation.at.isoformat() if row.isolation else None,
    ),
    *(_kind(kind, title, 3 + place) for place, (kind, title) in enumerate(DESTINATIONS.items())),
    Column(
        "wrong", "NOT AS IT MUST BE", 10, _wrong, lambda row: len(row.wrong), right=False, most=60, descending=True,
        raw=lambda row: row.wrong,
    ),
)  # fmt: skip
