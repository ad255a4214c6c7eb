"""A host's key and its certificate, which take the place of the pair before them together, whatever cuts that short.

The certificate comes first, each by a rename under a lock that playbooks take, too; where a power failure left the key waiting,
it follows at the next turn. Services that read between the two read again.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from edgefl.pki.errors import CertificateRefused, PkiError

_RENEWED = ".key.renewed"
_WAITING = (_RENEWED, ".key.next")
"""Keys that wait for their certificate: this module's own, and those of a rotation that the operator asked for."""
PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Key:
    """A key of this host. account: who owns it. joined: whether its service wants key and chain in one file, too."""

    role: str
    account: str
    joined: bool = False

    @classmethod
    def of(cls, text: str) -> Key:
        """From `ROLE:ACCOUNT` or `ROLE:ACCOUNT:joined`."""
        role, account, *more = text.split(":")
        return cls(role, account, more == ["joined"])


def private_pem(key: PrivateKeyTypes) -> bytes:
    """A key as it lies in its file."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certificate(path: Path) -> x509.Certificate:
    """The certificate in a file, the first of its chain. Raises PkiError where there is none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PkiError(f"{path} is no certificate: {error}", hint="edgefl up") from error


def verified(private: bytes, chain: bytes, identity: Path, role: str) -> x509.Certificate:
    """The leaf of a chain by the site's own authorities, for this key. identity: has the anchors. Raises CertificateRefused."""
    try:
        leaf, issuer = x509.load_pem_x509_certificates(chain)
        key = serialization.load_pem_private_key(private, None)
        roots = x509.load_pem_x509_certificates((identity / "ca.crt").read_bytes())
        leaf.verify_directly_issued_by(issuer)
        issuer.verify_directly_issued_by(next(root for root in roots if root.subject == issuer.issuer))
    except Exception as error:  # each way in which it can be foreign has an error of its own
        raise CertificateRefused(f"what came as the {role}'s certificate is not of this site: {error}") from error
    if key.public_key() != leaf.public_key():
        raise CertificateRefused(f"what came as the {role}'s certificate is not of the key beside it")
    return leaf


def place(stem: Path, key: Key, private: bytes, chain: bytes) -> None:
    """Put a pair in place. stem: `<identity>/<role>`."""
    owner = pwd.getpwnam(key.account)
    waiting = stem.with_name(stem.name + _RENEWED)
    write(waiting, private, owner, 0o600)
    write(stem.with_suffix(".crt"), chain, pwd.getpwuid(os.geteuid()), 0o644)
    waiting.replace(stem.with_suffix(".key"))
    if key.joined:
        write(stem.with_suffix(".pem"), private + chain, owner, 0o600)


def settle(stem: Path) -> None:
    """Where the certificate was put in place and a power failure kept its key waiting, the key follows."""
    try:
        leaf = certificate(stem.with_suffix(".crt"))
    except PkiError:
        return
    key = stem.with_suffix(".key")
    if not _fits(key, leaf):
        for waiting in (stem.with_name(stem.name + ending) for ending in _WAITING):
            if _fits(waiting, leaf):
                waiting.replace(key)
                return


def write(path: Path, content: bytes, owner: pwd.struct_passwd, mode: int) -> None:
    """Replace a file by a rename, its owner's and on the disk before it can be seen."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    fresh.replace(path)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Whoever replaces pairs there does it alone; playbooks take the same lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fits(key: Path, leaf: x509.Certificate) -> bool:
    try:
        return serialization.load_pem_private_key(key.read_bytes(), None).public_key() == leaf.public_key()
    except (OSError, ValueError, TypeError):
        return False
