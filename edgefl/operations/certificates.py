"""Every certificate of a site, as its authority's register has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from edgefl.errors import EdgeflError, ExitCode, NotProvisioned
from edgefl.pki.lifetime import Standing
from edgefl.pki.register import Entry, Register, entry_of
from edgefl.site.model import Site

AUTHORITY = "authority"
"""The role of what signs others."""


class NoSuchCertificate(EdgeflError):
    """Nobody of that name ever had a certificate of this site."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate. is_current: whether it is the newest of its name and role; an older one was replaced by it."""

    entry: Entry
    standing: Standing
    is_current: bool

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        entry = self.entry
        return {
            "name": entry.subject,
            "role": entry.role,
            "serial": entry.serial,
            "status": self.standing,
            "current": self.is_current,
            "not_before": entry.not_before,
            "not_after": entry.not_after,
            "issuer": entry.issuer,
            "key_sha256": entry.key,
            "revoked_at": entry.revoked_at,
            "reason": entry.reason,
        }


def held(site: Site, now: datetime) -> list[Held]:
    """All that were ever issued: the authorities, then hosts in the site's order, then people; each name's newest first.

    Raises NotProvisioned where there is no authority yet.
    """
    entries = [*_authorities(site), *Register(site.state / "pki" / "index.jsonl").entries()]
    order = {name: place for place, name in enumerate(["root", "issuing", *(host.name for host in site.hosts)])}
    newest: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        known = newest.get((entry.subject, entry.role))
        if known is None or entry.begins >= known.begins:
            newest[entry.subject, entry.role] = entry
    found = [Held(entry, entry.standing(now), newest[entry.subject, entry.role] is entry) for entry in entries]

    def place(one: Held) -> tuple[int, str, str, bool, float]:
        entry = one.entry
        return order.get(entry.subject, len(order)), entry.subject, entry.role, not one.is_current, -entry.begins.timestamp()

    return sorted(found, key=place)


def of(name: str, among: Iterable[Held]) -> list[Held]:
    """One name's certificates. Raises NoSuchCertificate with the nearest name."""
    among = list(among)
    found = [one for one in among if one.entry.subject == name]
    if not found:
        known = list(dict.fromkeys(one.entry.subject for one in among))
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        raise NoSuchCertificate(f"{name} never had a certificate of this site", hint=hint)
    return found


def _authorities(site: Site) -> list[Entry]:
    from cryptography import x509

    found = []
    for path in (site.state / "pki" / f"{place}{name}.crt" for place in ("old/", "") for name in ("root", "issuing")):
        if not path.exists():
            if path.parent.name == "old":
                continue  # one root is trusted
            raise NotProvisioned(f"{site.name} has no authority yet", hint="edgefl up")
        found.append(entry_of(x509.load_pem_x509_certificate(path.read_bytes()), path.stem, AUTHORITY, issuer="root"))
    return found
