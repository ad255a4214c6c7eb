"""What the site's certificates and lists look like (RFC 5280), whichever of its authorities signs them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import NameOID

BACKDATED = timedelta(minutes=1)
"""A host whose clock is a few seconds behind must not find its certificate in the future."""


def subject(name: str, role: str, site: str) -> x509.Name:
    """`O=<site>, OU=<role>, CN=<name>`: whoever may certify a site's devices alone is constrained to the first two."""
    return x509.Name([*of_role(role, site), x509.NameAttribute(NameOID.COMMON_NAME, name)])


def of_role(role: str, site: str) -> x509.Name:
    """What every subject of a role begins with."""
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, site), x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role)]
    )


def leaf(
    key: ec.EllipticCurvePublicKey,
    named: x509.Name,
    usages: Sequence[x509.ObjectIdentifier],
    alternatives: Sequence[x509.GeneralName],
    issuer: x509.Certificate,
    *,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    """A host's or a person's certificate, unsigned."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority_key(issuer), critical=False)
    )
    return builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False) if alternatives else builder


def authority(named: x509.Name, key: ec.EllipticCurvePublicKey, path_length: int, ends: datetime) -> x509.CertificateBuilder:
    """A certificate that signs others, without its issuer and unsigned."""
    return (
        x509.CertificateBuilder()
        .subject_name(named)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def revocations(issuer: x509.Certificate) -> x509.CertificateRevocationListBuilder:
    """An authority's list of what it revoked, empty and unsigned.

    It ends with its issuer: freshness comes from pushing a new one on every revocation, and a list that ran out would lock the
    whole fleet out.
    """
    now = datetime.now(UTC)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATED)
        .next_update(issuer.not_valid_after_utc)
        .add_extension(authority_key(issuer), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    )


def revoked(serial: str, at: datetime) -> x509.RevokedCertificate:
    """An entry of such a list. serial: hex."""
    return x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(at).build()


def authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Which of the issuer's keys signs."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def fingerprint(key: PublicKeyTypes) -> str:
    """SHA-256 of a public key (its SubjectPublicKeyInfo, DER), in hex."""
    return sha256(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The names and addresses that a certificate carries beside its subject."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def general(name: str) -> x509.GeneralName:
    """A DNS name or an IP address as a certificate has it."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


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
