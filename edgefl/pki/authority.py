"""The site's own certificate authority: a root that the operator keeps, and an issuing authority under it.

RFC 5280. A certificate's subject is `CN=<name>, OU=<role>, O=<site>`; the gate decides by the role and by nothing that the
certificate's owner could have chosen.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.pki import enrolment, keys, request
from edgefl.pki.errors import PkiError
from edgefl.pki.profiles import USAGES, Role, profiles
from edgefl.pki.register import Entry, Register, locked
from edgefl.site.model import Site

_BACKDATED = timedelta(minutes=1)
"""A host whose clock is a few seconds behind must not find its certificate in the future."""


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
            raise PkiError(f"no certificate with serial {serial} was issued here", hint="edgefl devices shows the serials")
        if not entry.is_revoked:
            self._register.revoked(entry.serial, reason)

    def crl(self) -> bytes:
        """PEM of two revocation lists, the root's and the issuing authority's: haproxy checks the whole chain.

        The lists end with their issuer: freshness comes from pushing a new one on every revocation, and a list that ran
        out would lock the whole fleet out.
        """
        revoked = [entry for entry in self.certificates() if entry.is_revoked and entry.expires > datetime.now(UTC)]
        builder = self._list_of(self.issuing)
        for entry in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(int(entry.serial, 16))
                .revocation_date(datetime.fromisoformat(entry.revoked_at))
                .build()
            )
        leaves = builder.sign(self._issuing_key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)
        return (self._directory / "root.crl").read_bytes() + leaves

    def _issue(self, key: ec.EllipticCurvePublicKey, name: str, role: Role, names: list[str], ips: list[request.Ip]) -> Issued:
        now = datetime.now(UTC).replace(microsecond=0)
        issuing = self.issuing
        ends = min(now + timedelta(hours=self._site.certificates.leaf_hours), issuing.not_valid_after_utc)
        if ends - now < timedelta(minutes=5):
            raise PkiError("the issuing authority is about to expire", hint="move .edgefl/pki/issuing.* away and run `edgefl up`")
        profile = profiles().roles[role]
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(name, role, self._site.name))
            .issuer_name(issuing.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([USAGES[usage] for usage in profile.usages]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_key(issuing), critical=False)
        )
        if names or ips:
            alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, ips)]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._issuing_key, hashes.SHA384())
        serial = format(certificate.serial_number, "x")
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        self._register.issued(Entry(serial, name, role, begins.isoformat(), ends.isoformat()))
        chain = certificate.public_bytes(serialization.Encoding.PEM) + (self._directory / "issuing.crt").read_bytes()
        return Issued(chain, serial, begins, ends)

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
        subject = _subject("edgefl root", "authority", self._site.name)
        ends = datetime.now(UTC) + timedelta(days=self._site.certificates.root_days)
        certificate = (
            _authority(subject, key.public_key(), profile.path_length, ends).issuer_name(subject).sign(key, hashes.SHA384())
        )
        crl = self._list_of(certificate).sign(key, hashes.SHA384())
        _write(self._directory / "root.crl", crl.public_bytes(serialization.Encoding.PEM))
        _write(self._directory / "root.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def _create_issuing(self) -> None:
        profile = profiles().authority["issuing"]
        root, root_key = self.root, keys.load(self._directory / "root.key", self._passphrase)
        (self._directory / "issuing.key").unlink(missing_ok=True)
        key = keys.create(self._directory / "issuing.key", profile.curve, self._passphrase)
        subject = _subject("edgefl issuing", "authority", self._site.name)
        ends = min(datetime.now(UTC) + timedelta(days=self._site.certificates.issuing_days), root.not_valid_after_utc)
        builder = _authority(subject, key.public_key(), profile.path_length, ends).issuer_name(root.subject)
        certificate = builder.add_extension(_authority_key(root), critical=False).sign(root_key, hashes.SHA384())
        _write(self._directory / "issuing.crt", certificate.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _list_of(issuer: x509.Certificate) -> x509.CertificateRevocationListBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(now - _BACKDATED)
            .next_update(issuer.not_valid_after_utc)
            .add_extension(_authority_key(issuer), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        )


def _subject(name: str, role: str, site: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, site),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _authority(subject: x509.Name, key: ec.EllipticCurvePublicKey, path_length: int, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
