"""Updates as whole numbers that can be added modulo a power of two, and their sum as real numbers again.

A value between -range and range becomes the nearest of the codes -levels to levels; `levels` leaves room for the sum of every
device's code, so that a sum never wraps around. With 32 bits the step is range / levels: for 10 devices and a range of 10 it
is 5e-8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.compression import packing
from edgefl.federation.secure.masks import Words

Vector = NDArray[np.float32]
Ranges = Vector | float
"""The largest magnitude that a value may have: one for all of them, or one each."""


class WordsWrong(ValueError):
    """An array that is no packed words; the text says why."""


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Codes of `bits` bits for sums of up to `devices` devices.

    bits: 32, or 8 and fewer. Then a word has just so many bits more as the sum needs: 12 for 16 devices.
    """

    bits: int
    devices: int

    @property
    def levels(self) -> int:
        """The largest code of one device."""
        return (2**31 - 1) // self.devices if self.bits == 32 else 2 ** (self.bits - 1) - 1

    @property
    def width(self) -> int:
        """Bits of a word on the wire."""
        return 32 if self.bits == 32 else self.bits + (self.devices - 1).bit_length()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of words in memory; a sum modulo 2**16 is right modulo 2**width too."""
        return np.dtype(np.uint32 if self.width > 16 else np.uint16)

    def encode(self, values: Vector, ranges: Ranges) -> Words:
        """Each value as a word, those beyond their range at its end. values: (k,), finite."""
        codes = np.rint(np.clip(values / np.asarray(ranges, np.float64), -1.0, 1.0) * self.levels)
        return codes.astype(np.int64).astype(self.dtype)

    def decode(self, words: Words, ranges: Ranges) -> Vector:
        """The values, or their sum, that the words stand for; each off by at most half a step for each device in it."""
        unused = 8 * self.dtype.itemsize - min(self.width, 8 * self.dtype.itemsize)
        # The word's sign is its highest used bit: shift it to the top and back.
        signed: NDArray[Any] = (words << unused).view(np.int32 if self.dtype.itemsize == 4 else np.int16)
        signed >>= unused
        result: Vector = (signed * (np.asarray(ranges, np.float64) / self.levels)).astype(np.float32)
        return result

    def pack(self, words: Words) -> NDArray[Any]:
        """As they travel: (k,) uint32, or the bytes of packed words."""
        if self.width == 32:
            return words
        below = words & np.uint16(2**self.width - 1)
        return np.frombuffer(packing.pack_codes(below, self.width), np.uint8)

    def unpack(self, packed: NDArray[Any], count: int) -> Words:
        """The inverse of `pack`, for whatever came. Raises WordsWrong."""
        wanted = (
            (np.dtype(np.uint32), count) if self.width == 32 else (np.dtype(np.uint8), packing.packed_size(self.width, count))
        )
        if packed.ndim != 1 or (packed.dtype, len(packed)) != wanted:
            raise WordsWrong(f"it sent {packed.dtype} of shape {packed.shape}, not {wanted[1]} of {wanted[0]}")
        return packed if self.width == 32 else packing.unpack_codes(packed.tobytes(), self.width, count)


def bounded(values: Vector, limit: float) -> Vector:
    """The values, shortened to an L2 norm of `limit` where they are longer. values: (k,), finite."""
    norm = float(np.linalg.norm(values.astype(np.float64)))
    return values if norm <= limit else (values * (limit / norm)).astype(np.float32)
