"""The authority's word for a bundle: who may put software on hosts is who may give them their identities.

`manifest.sig` is an ECDSA signature over manifest.json, which has every file's SHA-256. A host checks it before it installs, with
its own openssl and against the certificates that it got with its identity.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.fleet.bundle import MANIFEST, SIGNATURE, Bundle, BundleInvalid
from edgefl.pki.authority import Authority


class BundleUnsigned(BundleInvalid):
    """Nobody whom the site trusts answers for the bundle."""


def sign(bundle: Bundle, authority: Authority) -> bool:
    """Have the authority answer for the bundle as it lies there; whether that was needed. Raises PkiError."""
    try:
        check(bundle, [authority.issuing])
    except BundleUnsigned:
        fresh = bundle.path / f"{SIGNATURE}.new"
        fresh.write_bytes(authority.endorse((bundle.path / MANIFEST).read_bytes()))
        fresh.replace(bundle.path / SIGNATURE)
        return True
    return False


def check(bundle: Bundle, trusted: list[x509.Certificate]) -> None:
    """Raise BundleUnsigned unless one of these authorities signed the manifest."""
    try:
        content, signature = ((bundle.path / name).read_bytes() for name in (MANIFEST, SIGNATURE))
    except FileNotFoundError:
        raise BundleUnsigned(
            f"the bundle {bundle.path} is not signed", hint="edgefl bundle build, where the authority's key lies"
        ) from None
    if not any(_is_from(certificate, signature, content) for certificate in trusted):
        raise BundleUnsigned(
            f"the bundle {bundle.path} is not signed by this site's authority, or {MANIFEST} was altered since",
            hint="edgefl bundle build, where the authority's key lies",
        )


def _is_from(certificate: x509.Certificate, signature: bytes, content: bytes) -> bool:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True
