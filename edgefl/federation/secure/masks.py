"""What hides an update in a sum: keys that two devices agree on, and the streams of words that these keys give.

X25519 (RFC 7748), HKDF-SHA256 (RFC 5869) and AES-256 in counter mode: without its key nobody can tell a stream from random words.
Words are added modulo 2**32 or 2**16, where what one device adds and its peer subtracts is nothing.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

Words = NDArray[Any]
"""(k,) uint32 or uint16."""
KEY: Final = 32
"""Bytes of a secret or a public key."""
_PIECE: Final = 256 * 1024
"""Bytes of a stream that are made at once: they stay in the cache until they are added."""
_ZEROS: Final = bytes(_PIECE)


def fresh() -> bytes:
    """A new secret: a key, or a mask's seed. From the kernel, which forked processes share safely."""
    return secrets.token_bytes(KEY)


def public(secret: bytes) -> bytes:
    """The key that others may know."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agreed(secret: bytes, peer: bytes, purpose: str) -> bytes:
    """The key that two devices have in common for one purpose, which names the round and both of them.

    secret: this one's secret key. peer: the other's public one. Raises ValueError where that is no key.
    """
    shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(peer))
    return HKDF(SHA256(), KEY, None, purpose.encode()).derive(shared)


def pair(run: str, round_: int, one: str, other: str) -> str:
    """The purpose of the mask of two devices; the same on both."""
    return "\n".join(["edgefl mask", run, str(round_), *sorted((one, other))])


def add(words: Words, seed: bytes, *, negative: bool = False) -> None:
    """Add the seed's stream to the words, in place, or subtract it. seed: 32 bytes that give this one stream and no other."""
    encryptor = Cipher(AES256(seed), CTR(bytes(16))).encryptor()
    buffer = bytearray(_PIECE + 15)
    step = _PIECE // words.itemsize
    combine = np.subtract if negative else np.add
    for start in range(0, len(words), step):
        piece = words[start : start + step]
        encryptor.update_into(memoryview(_ZEROS)[: piece.nbytes], buffer)
        # Little-endian everywhere, so that devices of any kind make the same words.
        stream = np.frombuffer(buffer, words.dtype.newbyteorder("<"), len(piece))
        combine(piece, stream, out=piece)
