"""What a certificate is checked against: the site's authorities and their revocation lists, which every host has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.pki.errors import CertificateRefused, PkiError
from edgefl.pki.profiles import USAGES, Usage

Listed = tuple[x509.Certificate, x509.CertificateRevocationList]
"""An authority and the list of what it revoked."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Authorities that serve at a time, each with the list of what it revoked."""

    trusted: tuple[Listed, ...]
    now: datetime

    @classmethod
    def load(cls, directory: Path, now: datetime) -> Anchors:
        """From `ca.crt` and `crl.pem`: authorities in their time, with a list, that those above them did not revoke.

        Raises PkiError where a file is missing or is not what it should be, or none serves: who cannot look trusts nobody.
        """
        try:
            authorities = x509.load_pem_x509_certificates((directory / "ca.crt").read_bytes())
            lists = lists_of((directory / "crl.pem").read_text())
        except (OSError, ValueError) as error:
            raise PkiError(f"{directory} has no ca.crt and crl.pem that can be read: {error}", hint="edgefl up") from error
        listed = [(one, crl) for one in authorities for crl in lists if _is_of(crl, one)]
        sound = [(one, crl) for one, crl in listed if _serves(one, now) and _issuer(one, listed) is not None]
        if not sound:
            raise PkiError(f"{directory} has no authority that serves now, with its revocation list", hint="edgefl up")
        return cls(tuple(sound), now)

    def key_of(self, certificate: bytes, *, name: str, role: str, site: str, usage: Usage) -> ec.EllipticCurvePublicKey:
        """The public key of a certificate that an authority gave to this name for this role, and that serves.

        certificate: DER. Raises CertificateRefused, which says what is wrong with it.
        """
        try:
            leaf = x509.load_der_x509_certificate(certificate)
            said = subject(leaf)
            usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
            key, serves = leaf.public_key(), _serves(leaf, self.now)
            issuer = _issuer(leaf, self.trusted)
        except Exception as error:  # the parsers raise whatever hostile bytes lead them to, some only when a part is asked for
            raise CertificateRefused(f"it is no certificate of a host: {error}") from error
        if issuer is None:
            raise CertificateRefused("it is from another authority, or was revoked")
        if not serves:
            ends = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} to {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            raise CertificateRefused(f"its certificate does not serve now: it is valid from {ends}")
        if said != (name, role, site):
            told = "{0!r} as {1!r} of {2!r}"
            raise CertificateRefused(f"it is of {told.format(*said)}, not of {told.format(name, role, site)}")
        if usages != [USAGES[usage]] or not isinstance(key, ec.EllipticCurvePublicKey):
            raise CertificateRefused("its certificate was not given for this use")
        return key


def subject(certificate: x509.Certificate) -> tuple[str, str, str]:
    """(name, role, site) of a certificate; empty strings for what it does not say."""
    oids = (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
    found = [certificate.subject.get_attributes_for_oid(oid) for oid in oids]
    name, role, site = [str(attributes[0].value) if attributes else "" for attributes in found]
    return name, role, site


def lists_of(pem: str) -> list[x509.CertificateRevocationList]:
    """The revocation lists that stand one after another in a file. Raises ValueError where one is none."""
    end = "-----END X509 CRL-----\n"
    return [x509.load_pem_x509_crl((part + end).encode()) for part in pem.split(end) if part.strip()]


def revoked_serials(lists: str) -> list[str]:
    """Every revoked serial as haproxy's `ssl_c_serial,hex` writes it: upper-case hex, whole bytes."""
    serials = [entry.serial_number for crl in lists_of(lists) for entry in crl]
    return sorted(number.to_bytes((number.bit_length() + 7) // 8 or 1, "big").hex().upper() for number in serials)


def _issuer(certificate: x509.Certificate, among: Sequence[Listed]) -> x509.Certificate | None:
    """Who signed the certificate and did not revoke it."""
    for authority, revoked in among:
        if certificate.issuer == authority.subject and _is_signed(certificate, authority):
            gone = revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
            return authority if gone is None else None
    return None


def _is_signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
        return authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, x509.ExtensionNotFound):
        return False


def _is_of(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    return crl.issuer == authority.subject and isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)


def _serves(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
