"""The site's own certificate authority: a root that the operator keeps, and an issuing authority under it.

RFC 5280. A certificate's subject is `CN=<name>, OU=<role>, O=<site>`; the gate decides by the role and by nothing that the
certificate's owner could have chosen.

A root is replaced in three steps, each of which every host outlives: `prepare`, and hosts are given both to trust; `succeed`, and
what is signed from now on is the newer one's, by chains that the older one vouches for; `finish`, and only the newer one is left.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki import enrolment, forms, lifetime, request
from edgefl.pki.errors import PkiError
from edgefl.pki.generation import PEM, Generation
from edgefl.pki.profiles import USAGES, Role, profiles
from edgefl.pki.register import Entry, Register, entry_of, locked
from edgefl.pki.renewal import constrained, hosts_of
from edgefl.pki.renewals import Renewals
from edgefl.site.model import Site


@dataclass(frozen=True, slots=True)
class Issued:
    """A signed certificate. chain: PEM, the leaf and then the issuing authority. serial: lower-case hex."""

    chain: bytes
    serial: str
    not_before: datetime
    not_after: datetime


class Authority:
    """Signs, revokes and lists. Its files lie in `.edgefl/pki/`; `open` makes them once."""

    def __init__(self, directory: Path, site: Site, passphrase: str | None) -> None:
        self._directory = directory
        self._site = site
        self._register = Register(directory / "index.jsonl")
        self._renewals = Renewals(directory)
        self._now = Generation(directory, site, passphrase)
        self._next = Generation(directory / "next", site, passphrase)
        self._old = Generation(directory / "old", site, passphrase)
        self._leaving = directory / "leaving"

    @classmethod
    def open(cls, state_dir: Path, *, site: Site, passphrase: str | None = None) -> Authority:
        """The authority of the site whose working state lies in `state_dir`, made on first use.

        passphrase: encrypts both private keys when they are made, and opens them later; None leaves them 0600 alone.
        """
        authority = cls(state_dir / "pki", site, passphrase)
        authority._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(authority._directory / "lock"):
            authority._now.create()
        return authority

    @property
    def root(self) -> x509.Certificate:
        """The certificate that everyone trusts."""
        return self._now.root

    @property
    def issuing(self) -> x509.Certificate:
        """The certificate that signs leaves."""
        return self._now.issuing

    @property
    def elder(self) -> x509.Certificate:
        """The root that everyone has trusted longest; by it the coordinator's renewal authority is certified."""
        return self._elder.root

    @property
    def overlaps(self) -> bool:
        """Whether an older root is trusted beside the one that signs."""
        return self._old.exists

    def bundle(self) -> bytes:
        """PEM of every root and issuing authority: what a peer is checked against."""
        return b"".join(one.bundle() for one in self._generations())

    def certificates(self) -> list[Entry]:
        """Everything ever issued, oldest first."""
        return self._register.entries()

    def sign_csr(self, csr_pem: bytes, *, name: str, role: Role, addresses: Sequence[str] = ()) -> Issued:
        """A certificate for `name` in `role`, where the site enrols it so, from a request that asks for nothing but its own.

        addresses: the host's own IP addresses. Raises CsrRefused.
        """
        names, ips = self._names(name, role, addresses)
        key = request.check(csr_pem, name=name, curve=profiles().roles[role].curve, names=names, addresses=ips)
        return self._issue(key, name, role, names, ips)

    def revoke(self, serial: str, reason: str) -> None:
        """End a certificate early; PkiError when this authority never issued it. A second time changes nothing."""
        entry = next((entry for entry in self.certificates() if entry.serial == serial.lower()), None)
        if entry is None:
            raise PkiError(f"no certificate with serial {serial} was issued here", hint="edgefl certs list")
        if not entry.is_revoked:
            self._register.revoked(entry.serial, reason)
        if entry.issuer == "root":
            self._elder.list_by_root(one for one in self.certificates() if one.is_revoked and one.issuer == "root")

    def crl(self) -> bytes:
        """PEM of the revocation lists of roots, issuing and renewal authorities: haproxy checks the whole chain.

        An issuing authority's has what the renewal authority signed, too: its own was made on the coordinator, and is empty.
        Serials are unique among them.
        """
        revoked = [entry for entry in self.certificates() if entry.is_revoked and entry.expires > datetime.now(UTC)]
        return b"".join(one.lists(revoked) for one in self._generations()) + self._renewals.lists(self.elder)

    def issuers(self) -> list[x509.Certificate]:
        """What a host's chain may go on with: the issuing authority, and every renewal authority that serves."""
        ended = {entry.serial for entry in self.certificates() if entry.is_revoked}
        serve = (one for one in self._renewals.certificates(self.elder) if format(one.serial_number, "x") not in ended)
        return [self._now.above, *serve]

    def learn(self, entries: Sequence[Entry]) -> int:
        """Note what the renewal authority signed; how many were news. What is revoked by name is so with its successor."""
        return self._register.learn(entries)

    def sign_renewal(self, csr_pem: bytes, *, name: str) -> bytes:
        """PEM of a renewal authority's certificate, by the root's key, for the coordinator. Raises CsrRefused."""
        profile, site, root = profiles().authority["renewal"], self._site, self.elder
        enrolment.check(site, name, "gate", [])
        key = request.check(csr_pem, name=name, curve=profile.curve, names=[], addresses=[])
        named = forms.subject(f"edgefl renewal {forms.fingerprint(key)[:12]}", "authority", site.name)
        ends = min(datetime.now(UTC) + timedelta(days=site.certificates.renewal_days), root.not_valid_after_utc)
        builder = forms.authority(named, key, profile.path_length, ends)
        builder = constrained(builder, site=site.name, hosts=hosts_of(site), issuer=root)
        certificate = self._elder.sign_by_root(builder)
        self._register.issued(entry_of(certificate, name, "renewal", issuer="root"))
        return certificate.public_bytes(PEM)

    def keep_renewal(self, certificate_pem: bytes, list_pem: bytes) -> None:
        """Keep a renewal authority that stands on the coordinator, with the list that it signed. Raises PkiError."""
        self._renewals.keep(certificate_pem, list_pem, root=self.elder)

    def prepare(self) -> bool:
        """Make the next root and issuing authority, which sign nothing yet; False where one took over and is not finished."""
        if self.is_finishing or (self.overlaps and not self._next.exists):
            return False
        with locked(self._directory / "lock"):
            if not self.overlaps:
                self._next.create(mark=True)
                self._now.certify(self._next)
        return True

    def succeed(self) -> None:
        """From now on the next authority signs, and the one before is trusted still. Cut short, the same call goes on."""
        with locked(self._directory / "lock"):
            self._now.replaced_by(self._next, self._old.directory)

    @property
    def is_finishing(self) -> bool:
        """Whether there are hosts that may not know yet that the older root is trusted no more."""
        return self._leaving.exists()

    def finish(self) -> None:
        """From now on the older root is trusted no more; `forget` comes when every host knows it."""
        with locked(self._directory / "lock"):
            (self._directory / "cross.crt").unlink(missing_ok=True)
            if self._old.directory.exists():
                self._old.directory.rename(self._leaving)

    def forget(self) -> None:
        """The older root's keys are deleted."""
        shutil.rmtree(self._leaving, ignore_errors=True)

    def _generations(self) -> list[Generation]:
        return [self._now, *(one for one in (self._next, self._old) if one.exists)]

    @property
    def _elder(self) -> Generation:
        return self._old if self._old.exists else self._now

    def endorse(self, content: bytes) -> bytes:
        """The issuing authority's signature over what hosts install: ECDSA with SHA-384, DER, as `openssl dgst` checks it.

        content: never DER itself, so that no endorsement can pass for a certificate's signature. Raises ValueError if it may be.
        """
        if not content.startswith(b"{"):
            raise ValueError("only a JSON object is endorsed")
        return self._now.endorse(content)

    def _issue(self, key: ec.EllipticCurvePublicKey, name: str, role: Role, names: list[str], ips: list[request.Ip]) -> Issued:
        now = datetime.now(UTC).replace(microsecond=0)
        issuing, above = self.issuing, self._now.above
        lives = self._site.certificates
        days = lifetime.days(role, lives)
        life = timedelta(days=days) if days else timedelta(hours=lives.leaf_hours)
        ends = min(now + life, issuing.not_valid_after_utc, above.not_valid_after_utc)
        if ends - now < timedelta(minutes=5):
            raise PkiError("the issuing authority is about to expire", hint="edgefl certs rotate-ca")
        alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, ips)]
        usages = [USAGES[usage] for usage in profiles().roles[role].usages]
        named = forms.subject(name, role, self._site.name)
        certificate = self._now.sign(
            forms.leaf(key, named, usages, alternatives, issuing, begins=now - forms.BACKDATED, ends=ends)
        )
        entry = entry_of(certificate, name, role)
        self._register.issued(entry)
        return Issued(certificate.public_bytes(PEM) + above.public_bytes(PEM), entry.serial, entry.begins, entry.expires)

    def _names(self, name: str, role: Role, addresses: Sequence[str]) -> tuple[list[str], list[request.Ip]]:
        enrolled = enrolment.check(self._site, name, role, addresses)
        profile = profiles().roles[role]
        own = [name] if profile.host_names else []
        own_addresses = enrolled if profile.host_names else []
        return [*own, *profile.names], [*own_addresses, *profile.addresses]
