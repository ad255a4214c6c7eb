"""The site's own certificate authority: a root that the operator keeps, and an issuing authority under it.

RFC 5280. A certificate's subject is `CN=<name>, OU=<role>, O=<site>`; the gate decides by the role and by nothing that the
certificate's owner could have chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki import enrolment, forms, keys, request
from edgefl.pki.errors import PkiError
from edgefl.pki.profiles import USAGES, Role, profiles
from edgefl.pki.register import Entry, Register, entry_of, locked
from edgefl.pki.renewal import constrained
from edgefl.pki.renewals import Renewals, write
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
        self._passphrase = passphrase
        self._register = Register(directory / "index.jsonl")
        self._renewals = Renewals(directory)

    @classmethod
    def open(cls, state_dir: Path, *, site: Site, passphrase: str | None = None) -> Authority:
        """The authority of the site whose working state lies in `state_dir`, made on first use.

        passphrase: encrypts both private keys when they are made, and opens them later; None leaves them 0600 alone.
        """
        authority = cls(state_dir / "pki", site, passphrase)
        authority._create_missing()
        return authority

    @property
    def root(self) -> x509.Certificate:
        """The certificate that everyone trusts."""
        return x509.load_pem_x509_certificate((self._directory / "root.crt").read_bytes())

    @property
    def issuing(self) -> x509.Certificate:
        """The certificate that signs leaves."""
        return x509.load_pem_x509_certificate((self._directory / "issuing.crt").read_bytes())

    def bundle(self) -> bytes:
        """PEM of the root and the issuing authority: what a peer is checked against."""
        return (self._directory / "root.crt").read_bytes() + (self._directory / "issuing.crt").read_bytes()

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
            self._list_roots()

    def crl(self) -> bytes:
        """PEM of the revocation lists of root, issuing and renewal authorities: haproxy checks the whole chain.

        The issuing authority's has what the renewal authority signed, too: its own was made on the coordinator, and is empty.
        Serials are unique among them.
        """
        revoked = [entry for entry in self.certificates() if entry.is_revoked and entry.expires > datetime.now(UTC)]
        builder = forms.revocations(self.issuing)
        for entry in revoked:
            builder = builder.add_revoked_certificate(forms.revoked(entry.serial, datetime.fromisoformat(entry.revoked_at)))
        leaves = builder.sign(self._issuing_key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)
        return (self._directory / "root.crl").read_bytes() + leaves + self._renewals.lists()

    def issuers(self) -> list[x509.Certificate]:
        """Who may have signed a host's certificate: the issuing authority, and every renewal authority that serves."""
        ended = {entry.serial for entry in self.certificates() if entry.is_revoked}
        return [self.issuing, *(one for one in self._renewals.certificates() if format(one.serial_number, "x") not in ended)]

    def learn(self, entries: Sequence[Entry]) -> int:
        """Note what the renewal authority signed; how many were news. What is revoked by name is so with its successor."""
        return self._register.learn(entries)

    def sign_renewal(self, csr_pem: bytes, *, name: str) -> bytes:
        """PEM of a renewal authority's certificate, by the root's key, for the coordinator. Raises CsrRefused."""
        profile, site = profiles().authority["renewal"], self._site
        enrolment.check(site, name, "gate", [])
        key = request.check(csr_pem, name=name, curve=profile.curve, names=[], addresses=[])
        root = self.root
        named = forms.subject(f"edgefl renewal {forms.fingerprint(key)[:12]}", "authority", site.name)
        ends = min(datetime.now(UTC) + timedelta(days=site.certificates.renewal_days), root.not_valid_after_utc)
        builder = forms.authority(named, key, profile.path_length, ends)
        builder = constrained(builder, site=site.name, hosts=[host.name for host in site.hosts], issuer=root)
        certificate = builder.sign(keys.load(self._directory / "root.key", self._passphrase), hashes.SHA384())
        self._register.issued(entry_of(certificate, name, "renewal", issuer="root"))
        return certificate.public_bytes(serialization.Encoding.PEM)

    def keep_renewal(self, certificate_pem: bytes, list_pem: bytes) -> None:
        """Keep a renewal authority that stands on the coordinator, with the list that it signed. Raises PkiError."""
        self._renewals.keep(certificate_pem, list_pem, root=self.root)

    def _issue(self, key: ec.EllipticCurvePublicKey, name: str, role: Role, names: list[str], ips: list[request.Ip]) -> Issued:
        now = datetime.now(UTC).replace(microsecond=0)
        issuing = self.issuing
        lives = self._site.certificates
        life = timedelta(days=lives.signer_days) if role == "signer" else timedelta(hours=lives.leaf_hours)
        ends = min(now + life, issuing.not_valid_after_utc)
        if ends - now < timedelta(minutes=5):
            raise PkiError("the issuing authority is about to expire", hint="move .edgefl/pki/issuing.* away and run `edgefl up`")
        alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, ips)]
        usages = [USAGES[usage] for usage in profiles().roles[role].usages]
        named = forms.subject(name, role, self._site.name)
        builder = forms.leaf(key, named, usages, alternatives, issuing, begins=now - forms.BACKDATED, ends=ends)
        certificate = builder.sign(self._issuing_key, hashes.SHA384())
        entry = entry_of(certificate, name, role)
        self._register.issued(entry)
        chain = certificate.public_bytes(serialization.Encoding.PEM) + (self._directory / "issuing.crt").read_bytes()
        return Issued(chain, entry.serial, entry.begins, entry.expires)

    def _names(self, name: str, role: Role, addresses: Sequence[str]) -> tuple[list[str], list[request.Ip]]:
        enrolled = enrolment.check(self._site, name, role, addresses)
        profile = profiles().roles[role]
        own = [name] if profile.host_names else []
        own_addresses = enrolled if profile.host_names else []
        return [*own, *profile.names], [*own_addresses, *profile.addresses]

    @cached_property
    def _issuing_key(self) -> ec.EllipticCurvePrivateKey:
        return keys.load(self._directory / "issuing.key", self._passphrase)

    def _create_missing(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory.chmod(0o700)
        with locked(self._directory / "lock"):
            if not (self._directory / "root.crt").exists():
                self._create_root()
            if not (self._directory / "issuing.crt").exists():
                self._create_issuing()

    def _create_root(self) -> None:
        profile = profiles().authority["root"]
        (self._directory / "root.key").unlink(missing_ok=True)  # a key without its certificate is a first run that was cut short
        key = keys.create(self._directory / "root.key", profile.curve, self._passphrase)
        subject = forms.subject("edgefl root", "authority", self._site.name)
        ends = datetime.now(UTC) + timedelta(days=self._site.certificates.root_days)
        certificate = (
            forms.authority(subject, key.public_key(), profile.path_length, ends).issuer_name(subject).sign(key, hashes.SHA384())
        )
        crl = forms.revocations(certificate).sign(key, hashes.SHA384())
        write(self._directory / "root.crl", crl.public_bytes(serialization.Encoding.PEM))
        write(self._directory / "root.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def _list_roots(self) -> None:
        """The root's list, with every renewal authority that was revoked."""
        builder = forms.revocations(self.root)
        for entry in self.certificates():
            if entry.is_revoked and entry.issuer == "root":
                builder = builder.add_revoked_certificate(forms.revoked(entry.serial, datetime.fromisoformat(entry.revoked_at)))
        crl = builder.sign(keys.load(self._directory / "root.key", self._passphrase), hashes.SHA384())
        write(self._directory / "root.crl", crl.public_bytes(serialization.Encoding.PEM))

    def _create_issuing(self) -> None:
        profile = profiles().authority["issuing"]
        root, root_key = self.root, keys.load(self._directory / "root.key", self._passphrase)
        (self._directory / "issuing.key").unlink(missing_ok=True)
        key = keys.create(self._directory / "issuing.key", profile.curve, self._passphrase)
        subject = forms.subject("edgefl issuing", "authority", self._site.name)
        ends = min(datetime.now(UTC) + timedelta(days=self._site.certificates.issuing_days), root.not_valid_after_utc)
        builder = forms.authority(subject, key.public_key(), profile.path_length, ends).issuer_name(root.subject)
        certificate = builder.add_extension(forms.authority_key(root), critical=False).sign(root_key, hashes.SHA384())
        write(self._directory / "issuing.crt", certificate.public_bytes(serialization.Encoding.PEM))
