"""Whose a round's public keys are: each device signs its own, and each looks at the others' before it masks or seals anything.

They travel by the coordinator, which could put keys of its own in their place and read what is masked and sealed with them. What
it cannot do is sign them: a device's signing key is made on the device, and the site's authority certified it for that
alone. It is not the key of the device's TLS, which the executor never sees (only the SuperNode's account reads it), and opens no
connection.

A signature (ECDSA on P-256 with SHA-256) is over the run, the round, the device's name and both keys: it serves nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from numpy.typing import NDArray

from edgefl.federation.messages import MOST_CERTIFICATE, Arrays, Keys
from edgefl.federation.secure.vault import SecureRefused
from edgefl.pki.anchors import Anchors
from edgefl.pki.errors import CertificateRefused, PkiError

ROLE: Final = "signer"
KEYS, CERTIFICATES, LENGTHS, SIGNATURES = "keys", "certificates", "lengths", "signatures"
"""The arrays in which members' signed keys travel: (n, 2, 32) public keys, all certificates (DER) one after another, (n,) uint32
bytes of each, (n, 64) signatures; a row for each member in the message's order.
"""
_HALF: Final = 32
"""Bytes of each of a signature's two numbers."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a signature is bound to besides its device's name and keys."""

    site: str
    run: str
    number: int

    def statement(self, name: str, seal: bytes, mask: bytes) -> bytes:
        """What a device signs: as JSON, so that no name can be read as something else."""
        return json.dumps(["edgefl round keys", self.site, self.run, self.number, name, seal.hex(), mask.hex()]).encode()


def signed(directory: Path, round_: Round, name: str, seal: bytes, mask: bytes) -> Keys:
    """A device's public keys with its signature. directory: its signing key and certificate.

    Raises SecureRefused where the key or its certificate cannot be used.
    """
    try:
        key = load_pem_private_key((directory / f"{ROLE}.key").read_bytes(), None)
        [certificate, *_] = x509.load_pem_x509_certificates((directory / f"{ROLE}.crt").read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise SecureRefused(
            f"this device has no signing key in {directory} that can be used: {error}", hint="edgefl up"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise SecureRefused(f"the certificate in {directory} is not of the key beside it", hint="edgefl up")
    r, s = decode_dss_signature(key.sign(round_.statement(name, seal, mask), ec.ECDSA(SHA256())))
    signature = r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")
    der = certificate.public_bytes(Encoding.DER)
    return Keys(seal=seal.hex(), mask=mask.hex(), certificate=der.hex(), signature=signature.hex())


def verify(anchors: Anchors, round_: Round, name: str, keys: Keys) -> None:
    """Raise CertificateRefused unless the device of this name signed these keys for this round."""
    certificate = bytes.fromhex(keys.certificate)
    key = anchors.key_of(certificate, name=name, role=ROLE, site=round_.site, usage="document_signing")
    raw = bytes.fromhex(keys.signature)
    signature = encode_dss_signature(int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF:], "big"))
    statement = round_.statement(name, bytes.fromhex(keys.seal), bytes.fromhex(keys.mask))
    try:
        key.verify(signature, statement, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise CertificateRefused("its signature is not of these keys in this round") from error


def verify_peers(directory: Path, round_: Round, own: str, members: Sequence[str], arrays: Arrays) -> None:
    """Raise SecureRefused unless each other member's keys are signed by that member. directory: with ca.crt and crl.pem."""
    try:
        anchors = Anchors.load(directory, datetime.now(UTC))
    except PkiError as error:
        raise SecureRefused(f"this device cannot check the others' keys: {error.what}", hint=error.hint) from error
    for member, keys in zip(members, unpacked(arrays, len(members)), strict=True):
        if member == own:
            continue
        try:
            verify(anchors, round_, member, keys)
        except CertificateRefused as error:
            raise SecureRefused(
                f"the keys that came as {member}'s are not known to be its own: {error.what}",
                hint="find out who changed them between the devices: the coordinator could have",
            ) from error


def packed(keys: Sequence[Keys]) -> Arrays:
    """Members' signed keys as they travel to each of them."""
    certificates = [bytes.fromhex(one.certificate) for one in keys]
    return {
        KEYS: _bytes("".join(one.seal + one.mask for one in keys)).reshape(-1, 2, _HALF),
        CERTIFICATES: np.frombuffer(b"".join(certificates), np.uint8),
        LENGTHS: np.array([len(one) for one in certificates], np.uint32),
        SIGNATURES: _bytes("".join(one.signature for one in keys)).reshape(-1, 2 * _HALF),
    }


def unpacked(arrays: Arrays, count: int) -> list[Keys]:
    """The signed keys of `count` members. Raises SecureRefused where the coordinator sent something else."""
    shapes = {KEYS: (count, 2, _HALF), SIGNATURES: (count, 2 * _HALF), LENGTHS: (count,), CERTIFICATES: None}
    for name, shape in shapes.items():
        array, dtype = arrays.get(name), np.uint32 if name == LENGTHS else np.uint8
        if array is None or array.dtype != dtype or array.ndim != len(shape or (0,)) or shape not in (None, array.shape):
            raise SecureRefused(f"the coordinator's message has no `{name}` of {count} members")
    lengths = arrays[LENGTHS].astype(np.int64)
    if lengths.sum() != arrays[CERTIFICATES].size or lengths.min() < 1 or lengths.max() > MOST_CERTIFICATE:
        raise SecureRefused("the members' certificates are not as long as the coordinator says")
    certificates = np.split(arrays[CERTIFICATES], np.cumsum(lengths)[:-1])
    return [
        Keys(
            seal=both[0].tobytes().hex(),
            mask=both[1].tobytes().hex(),
            certificate=certificate.tobytes().hex(),
            signature=signature.tobytes().hex(),
        )
        for both, certificate, signature in zip(arrays[KEYS], certificates, arrays[SIGNATURES], strict=True)
    ]


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(text), np.uint8)
