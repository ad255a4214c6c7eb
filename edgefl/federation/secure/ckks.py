"""Updates encrypted so that their sum can be made without reading them: CKKS (Cheon et al., 2017,
doi:10.1007/978-3-319-70694-8_15), additions only, by TenSEAL.

Ring degree 8192 with one modulus of 60 bits for the data: 8.2 times the bytes of float32, errors of about 1e-8. Symmetric keys:
who encrypts may decrypt, too. Adding needs no key.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.messages import Arrays

Vector = NDArray[np.float32]
DEGREE: Final = 8192
MODULI: Final = [60, 60]
SCALE: Final = 2.0**45
SLOTS: Final = DEGREE // 2
"""Values in one ciphertext."""
MOST_BYTES: Final = 160 * 1024
"""Of one ciphertext; an honest one has 131 kB."""
CIPHER, LENGTHS = "cipher", "lengths"


class CipherWrong(ValueError):
    """Bytes that are no ciphertexts of an update; the text says why."""


def fresh_context() -> bytes:
    """A new secret key, with its parameters: 131 kB."""
    return bytes(_context().serialize(save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False))


def encrypt(values: Vector, secret: bytes) -> Arrays:
    """The values' ciphertexts, for whoever holds the same key. values: (p,) finite; no sum of them may reach 2**13."""
    import tenseal

    context = tenseal.context_from(secret)
    pieces = [
        tenseal.ckks_vector(context, values[start : start + SLOTS].tolist()).serialize() for start in range(0, len(values), SLOTS)
    ]
    return packed(pieces)


def packed(pieces: list[bytes]) -> Arrays:
    """Ciphertexts as they travel."""
    return {
        CIPHER: np.frombuffer(b"".join(pieces), np.uint8),
        LENGTHS: np.array([len(piece) for piece in pieces], np.uint32),
    }


def read(arrays: Arrays, size: int, context: Any) -> list[Any]:
    """The ciphertexts of an update of `size` values; whoever sent them may be hostile. Raises CipherWrong."""
    import tenseal

    count = -(-size // SLOTS)
    if arrays.keys() != {CIPHER, LENGTHS} or arrays[LENGTHS].dtype != np.uint32 or arrays[LENGTHS].shape != (count,):
        raise CipherWrong(f"it sent no {count} ciphertexts")
    lengths = arrays[LENGTHS].astype(np.int64)
    if arrays[CIPHER].dtype != np.uint8 or arrays[CIPHER].shape != (lengths.sum(),) or lengths.max() > MOST_BYTES:
        raise CipherWrong("the lengths of its ciphertexts are not theirs")
    ends = np.cumsum(lengths)
    vectors = []
    for place, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        try:
            vector = tenseal.ckks_vector_from(context, arrays[CIPHER][end - length : end].tobytes())
            values = vector.size()
        except Exception as error:  # SEAL raises whatever hostile bytes lead it to
            raise CipherWrong(f"ciphertext {place} cannot be read: {error}") from error
        if values != min(SLOTS, size - place * SLOTS):
            raise CipherWrong(f"ciphertext {place} holds {values} values")
        vectors.append(vector)
    return vectors


class Total:
    """A sum of encrypted updates, made without their key. size: values of each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._context = _context()
        self._sum: list[Any] = []

    def add(self, arrays: Arrays) -> None:
        """Add an update; nothing is added where it raises CipherWrong."""
        vectors = read(arrays, self.size, self._context)
        try:
            self._sum = [one + other for one, other in zip(self._sum, vectors, strict=True)] if self._sum else vectors
        except ValueError as error:
            raise CipherWrong(f"its ciphertexts do not add up with others: {error}") from error

    def arrays(self) -> Arrays:
        """The sum, to be decrypted."""
        return packed([vector.serialize() for vector in self._sum])


def decrypt(arrays: Arrays, size: int, secret: bytes) -> Vector:
    """The values. Raises CipherWrong."""
    import tenseal

    vectors = read(arrays, size, tenseal.context_from(secret))
    return np.concatenate([np.array(vector.decrypt()[: vector.size()]) for vector in vectors]).astype(np.float32)


def _context() -> Any:
    import tenseal

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=DEGREE,
        coeff_mod_bit_sizes=MODULI,
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        n_threads=1,
    )
    context.global_scale = SCALE
    return context
