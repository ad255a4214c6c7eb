"""A certificate request, and whether it asks only for what is its sender's own."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.pki.errors import CsrRefused
from edgefl.pki.forms import fingerprint
from edgefl.progress import printable

Ip = IPv4Address | IPv6Address


def make(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """PEM of a request for a certificate in this name, and for nothing else."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM)


def check(pem: bytes, *, name: str, curve: str, names: Collection[str], addresses: Collection[Ip]) -> ec.EllipticCurvePublicKey:
    """The request's public key, once its signature, key type, subject and SANs are those that `name` may have.

    A request may ask for less than the host has, never for more: CsrRefused says what was foreign. The certificate is
    built from what the site says, so nothing else of the request is ever copied.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
    except ValueError as error:
        raise CsrRefused(f"{name} sent something that is no certificate request", hint=f"edgefl doctor {name}") from error
    if not request.is_signature_valid:
        raise CsrRefused(f"{name}'s request is not signed by its own key", hint=f"edgefl doctor {name}")
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
        raise CsrRefused(
            f"{name}'s key is not an ECDSA key on {curve}", hint=f"remove the key on {name} and run `edgefl up` again"
        )
    common = [attribute.value for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if common != [name]:
        raise CsrRefused(f"{name}'s request names {common or 'nobody'} as its subject", hint=f"edgefl doctor {name}")
    foreign = _foreign(request, names, addresses)
    if foreign:
        raise CsrRefused(
            f"{name}'s request asks for names that are not its own: {', '.join(foreign)}", hint=f"edgefl doctor {name}"
        )
    return key


def claimed(pem: bytes) -> str:
    """The name that a request claims, whoever sent it, safe to be shown; empty where there is none."""
    try:
        found = x509.load_pem_x509_csr(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return printable(str(found[0].value))[:64] if found else ""
    except ValueError:
        return ""


def key_of(pem: bytes) -> str:
    """SHA-256 of the key that a request is for, in hex, once it is signed by that; empty where it is not."""
    try:
        request = x509.load_pem_x509_csr(pem)
        return fingerprint(request.public_key()) if request.is_signature_valid else ""
    except (ValueError, UnsupportedAlgorithm):
        return ""


def _foreign(request: x509.CertificateSigningRequest, names: Collection[str], addresses: Collection[Ip]) -> list[str]:
    try:
        asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    allowed: set[object] = {*names, *addresses}
    return [
        str(entry.value) for entry in asked if not (isinstance(entry, x509.DNSName | x509.IPAddress) and entry.value in allowed)
    ]
