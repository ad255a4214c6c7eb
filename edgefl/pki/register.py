"""The authority's register: what it issued and what it revoked, an append-only file of JSON lines.

Ansible signs for several hosts at once, each in a process of its own: every append is one locked, flushed line.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from edgefl.pki.errors import PkiError
from edgefl.pki.forms import fingerprint
from edgefl.pki.lifetime import Standing, standing

GONE, REPLACED, UNWANTED = LEFT = ("left the site", "its hardware was replaced", "the site asks for it no more")
"""Why a certificate ended whose host did nothing wrong."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate's life. serial: lower-case hex. Times are RFC 3339, UTC.

    issuer: which of the site's authorities signed it, `root`, `issuing` or `renewal`. key: SHA-256 of its public key (SPKI), hex.
    """

    serial: str
    subject: str
    role: str
    not_before: str
    not_after: str
    revoked_at: str = ""
    reason: str = ""
    issuer: str = "issuing"
    key: str = ""

    @property
    def expires(self) -> datetime:
        """When it ends by itself."""
        return datetime.fromisoformat(self.not_after)

    @property
    def begins(self) -> datetime:
        """From when on it is valid."""
        return datetime.fromisoformat(self.not_before)

    @property
    def is_revoked(self) -> bool:
        """Whether it was ended early."""
        return bool(self.revoked_at)

    def standing(self, now: datetime) -> Standing:
        """What it is worth at this moment."""
        return "revoked" if self.is_revoked else standing(self.begins, self.expires, now)


class Register:
    """The file; reads are whole, since short-lived certificates keep it small."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def issued(self, entry: Entry) -> None:
        """Record a new certificate before it leaves the authority."""
        self._append({"issued": asdict(entry)})

    def learn(self, entries: Sequence[Entry]) -> int:
        """Record what another authority of the site signed, where it is not known; how many were news.

        A name that is kept out had it revoked before its successor was heard of: that one is revoked with it.
        """
        known = self.entries()
        serials, newest = {entry.serial for entry in known}, {(entry.subject, entry.role): entry for entry in known}
        news = [entry for entry in entries if entry.serial not in serials]
        for entry in news:
            before = newest.get((entry.subject, entry.role))
            self.issued(entry)
            if before is not None and before.is_revoked:
                self.revoked(entry.serial, before.reason)
        return len(news)

    def revoked(self, serial: str, reason: str) -> None:
        """Record that a certificate opens nothing from now on."""
        self._append({"revoked": {"serial": serial, "reason": reason, "at": datetime.now(UTC).isoformat()}})

    def entries(self) -> list[Entry]:
        """Every certificate, oldest first, with its revocation."""
        found: dict[str, Entry] = {}
        if not self._path.exists():
            return []
        # What has no line end was cut off while it was written: nothing was signed by it yet, and `_append` replaces it.
        for number, line in enumerate(self._path.read_text().rpartition("\n")[0].splitlines(), 1):
            try:
                record = json.loads(line)
            except ValueError as damage:
                raise PkiError(
                    f"{self._path}:{number} is damaged: {damage}", hint="restore it from a backup: it says what was revoked"
                ) from damage
            if "issued" in record:
                entry = Entry(**record["issued"])
                found[entry.serial] = entry
            elif (revocation := record["revoked"])["serial"] in found:
                entry = found[revocation["serial"]]
                found[entry.serial] = replace(entry, revoked_at=revocation["at"], reason=revocation["reason"])
        return list(found.values())

    def _append(self, record: dict[str, object]) -> None:
        with locked(self._path) as descriptor:
            content = self._path.read_bytes()
            os.ftruncate(descriptor, content.rfind(b"\n") + 1)
            os.write(descriptor, (json.dumps(record, sort_keys=True) + "\n").encode())
            os.fsync(descriptor)


def kept_out(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The devices that are kept out, each with why: the newest of its certificates was revoked, and none was given since.

    A device that left the site is kept out by that; under its name another, or it, may come.
    """
    newest = {entry.subject: entry for entry in entries if entry.role == "device"}
    return {name: entry for name, entry in newest.items() if entry.is_revoked and entry.reason not in LEFT}


def entry_of(certificate: x509.Certificate, name: str, role: str, *, issuer: str = "issuing") -> Entry:
    """A certificate as the register has it."""
    serial = format(certificate.serial_number, "x")
    begins, ends = certificate.not_valid_before_utc.isoformat(), certificate.not_valid_after_utc.isoformat()
    return Entry(serial, name, role, begins, ends, issuer=issuer, key=fingerprint(certificate.public_key()))


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """An append-only descriptor of `path` (0600), held by this process alone while the block runs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
