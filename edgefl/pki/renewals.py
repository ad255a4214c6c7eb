"""What the operator keeps of the coordinator's renewal authorities: their certificates and lists, and no key."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki.anchors import lists_of
from edgefl.pki.errors import PkiError

PEM = serialization.Encoding.PEM


class Renewals:
    """`renewal.crt` and `renewal.crl` in the authority's directory: those that serve, the newest last."""

    def __init__(self, directory: Path) -> None:
        self._certificates, self._lists = directory / "renewal.crt", directory / "renewal.crl"

    def certificates(self, root: x509.Certificate) -> list[x509.Certificate]:
        """Every renewal authority of this root that has not ended."""
        if not self._certificates.exists():
            return []
        found = x509.load_pem_x509_certificates(self._certificates.read_bytes())
        return [one for one in found if one.not_valid_after_utc > datetime.now(UTC) and one.issuer == root.subject]

    def lists(self, root: x509.Certificate) -> bytes:
        """PEM of the list of each of them."""
        if not self._lists.exists():
            return b""
        serve = {one.subject for one in self.certificates(root)}
        return b"".join(one.public_bytes(PEM) for one in lists_of(self._lists.read_text()) if one.issuer in serve)

    def keep(self, certificate_pem: bytes, list_pem: bytes, *, root: x509.Certificate) -> None:
        """Add one, once its certificate is the root's and its list its own. Raises PkiError."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            [crl] = lists_of(list_pem.decode())
            certificate.verify_directly_issued_by(root)
            key = certificate.public_key()
            is_own = isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise PkiError(f"the coordinator's renewal authority is not the site's: {error}", hint="edgefl up") from error
        if not is_own or crl.issuer != certificate.subject or len(crl):
            raise PkiError("the list of the coordinator's renewal authority is not its own, or not empty", hint="edgefl up")
        others = [one for one in self.certificates(root) if one.subject != certificate.subject]
        lists = [one for one in lists_of(self.lists(root).decode()) if one.issuer != crl.issuer]
        write(self._lists, b"".join(one.public_bytes(PEM) for one in [*lists, crl]))
        write(self._certificates, b"".join(one.public_bytes(PEM) for one in [*others, certificate]))


def write(path: Path, content: bytes) -> None:
    """Replace a file by a rename, on the disk before it can be seen."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
