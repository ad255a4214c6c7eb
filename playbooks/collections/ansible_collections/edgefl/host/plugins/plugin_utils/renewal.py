"""Whether a host's certificate still serves, as a function of what the host has and what the authority says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from edgefl.pki.anchors import lists_of
from edgefl.pki.anchors import revoked_serials as revoked_serials  # noqa: PLC0414  # who installs lists, takes this from here
from edgefl.pki.anchors import subject as subject_of
from edgefl.pki.lifetime import renewal
from edgefl.pki.renewal import covered


def why_renew(
    chain: str,
    public_key: str,
    *,
    issuers: Sequence[x509.Certificate],
    subject: tuple[str, str, str],
    names: Collection[str],
    now: datetime,
) -> str:
    """Why the host needs another certificate; empty when it needs none.

    chain: PEM on the host, the leaf first. issuers: who may have signed it. public_key: PEM of the key that the host has.
    subject: (name, role, site). names: DNS names and IP addresses that the certificate must carry, no more and no less.
    """
    try:
        leaf, *rest = x509.load_pem_x509_certificates(chain.encode())
    except ValueError:
        return "it has none"
    if subject_of(leaf) != subject:
        return "it is in another name"
    if {str(name) for name in _names(leaf)} != {_canonical(name) for name in names}:
        return "it carries other names or addresses"
    if len(rest) != 1 or rest[0] not in issuers or not _is_signed_by(leaf, rest[0]):
        return "it is from another authority"
    try:
        if load_pem_public_key(public_key.encode()) != leaf.public_key():
            return "it does not fit the host's key"
    except ValueError:
        return "the host's key is gone"
    if now >= leaf.not_valid_after_utc:
        return "it has expired"
    return "it expires soon" if now >= renewal(leaf) else ""


def why_renew_authority(
    certificate: str,
    public_key: str,
    *,
    root: x509.Certificate,
    kept: Collection[x509.Certificate],
    hosts: Collection[str],
    now: datetime,
) -> str:
    """Why the coordinator needs another renewal authority; empty when it needs none.

    kept: those that the operator knows, with their lists, and did not revoke. hosts: whom it must be able to certify.
    """
    try:
        own = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return "it has none"
    if own not in kept or not _is_signed_by(own, root):
        return "it is not the site's"
    if not set(hosts) <= covered(own):
        return "the site has other hosts"
    try:
        if load_pem_public_key(public_key.encode()) != own.public_key():
            return "it does not fit its key"
    except ValueError:
        return "its key is gone"
    return "it expires soon" if now >= renewal(own) else ""


def serial(chain: str) -> str:
    """The leaf's serial in lower-case hex; empty when there is no certificate."""
    try:
        return format(x509.load_pem_x509_certificate(chain.encode()).serial_number, "x")
    except ValueError:
        return ""


def lists_differ(installed: str, current: str, now: datetime) -> bool:
    """Whether the installed revocation lists say something else than the current ones, or end soon."""
    try:
        olds, news = lists_of(installed), lists_of(current)
    except ValueError:
        return True
    return content_of(olds) != content_of(news) or any(crl.next_update_utc and crl.next_update_utc < now for crl in olds)


def content_of(lists: list[x509.CertificateRevocationList]) -> list[tuple[bytes, list[int]]]:
    """What lists say, whenever they were made: each issuer's revoked serials."""
    return [(crl.issuer.public_bytes(), sorted(entry.serial_number for entry in crl)) for crl in lists]


def _names(leaf: x509.Certificate) -> list[object]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*extension.get_values_for_type(x509.DNSName), *extension.get_values_for_type(x509.IPAddress)]


def _canonical(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def _is_signed_by(leaf: x509.Certificate, issuing: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuing)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
