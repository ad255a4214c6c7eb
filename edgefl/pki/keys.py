"""Private keys on the operator's disk: written once, 0600, encrypted where a passphrase is given."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki.errors import PkiError
from edgefl.pki.profiles import Curve

_CURVES: dict[Curve, type[ec.EllipticCurve]] = {"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1}


def create(path: Path, curve: Curve, passphrase: str | None = None) -> ec.EllipticCurvePrivateKey:
    """Make a key and store it as PKCS #8; a file that is there is never overwritten."""
    key = ec.generate_private_key(_CURVES[curve]())
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_private(path, pem)
    return key


def load(path: Path, passphrase: str | None = None) -> ec.EllipticCurvePrivateKey:
    """Read a key that `create` wrote; PkiError when the passphrase is missing or wrong."""
    pem = path.read_bytes()
    encrypted = b"ENCRYPTED" in pem.splitlines()[0]
    if encrypted and not passphrase:
        raise PkiError(f"{path} is encrypted and no passphrase was given", hint="set EDGEFL_PASSPHRASE and run the command again")
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode() if encrypted and passphrase else None)
    except ValueError as error:
        raise PkiError(
            f"{path} cannot be read: the passphrase is wrong or the file is damaged", hint="check EDGEFL_PASSPHRASE"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path} holds no elliptic-curve key", hint="restore the site's .edgefl/pki from your backup")
    return key


def write_private(path: Path, content: bytes) -> None:
    """Create `path` with mode 0600 from its first byte on, whole or not at all; FileExistsError when it is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.link(fresh, path)
    fresh.unlink()
