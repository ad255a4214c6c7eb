"""Numbers as few bytes, for an entropy coder to make smaller still: codes of a fixed width, and rising places as their gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LONG = 255
"""A byte of a gap that says: add this much, and there is more."""

Codes = NDArray[np.uint16]
Places = NDArray[np.int64]


def pack_codes(codes: Codes, bits: int) -> bytes:
    """Codes below 2**bits in `packed_size` bytes. bits: 1 to 16.

    A code that does not divide a byte has one of its own: across bytes its distribution would be lost on the entropy coder.
    """
    bits = _width(bits)
    if bits == 8:
        return codes.astype(np.uint8).tobytes()
    if bits == 16:
        return codes.astype("<u2").tobytes()
    wide = np.unpackbits(codes.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
    return np.packbits(wide[:, 16 - bits :]).tobytes()


def unpack_codes(packed: bytes, bits: int, count: int) -> Codes:
    """The inverse of `pack_codes`. packed: of exactly `packed_size(bits, count)` bytes."""
    bits = _width(bits)
    if bits == 8:
        return np.frombuffer(packed, np.uint8).astype(np.uint16)
    if bits == 16:
        return np.frombuffer(packed, "<u2").astype(np.uint16)
    wide = np.zeros((count, 16), np.uint8)
    wide[:, 16 - bits :] = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * bits).reshape(count, bits)
    return np.packbits(wide, axis=1).view(">u2").ravel().astype(np.uint16)


def packed_size(bits: int, count: int) -> int:
    """Bytes that `count` codes take."""
    return -(-count * _width(bits) // 8)


def _width(bits: int) -> int:
    """Bits that a code takes before entropy coding."""
    return 8 if 4 < bits < 8 or bits == 3 else bits


def pack_places(places: Places) -> bytes:
    """Strictly rising places from 0 as gaps: one byte each below 255, one more for every 255 that a gap is longer."""
    gaps = np.diff(places, prepend=-1) - 1
    ends = np.cumsum(gaps // LONG + 1)
    packed = np.full(int(ends[-1]) if len(ends) else 0, LONG, np.uint8)
    packed[ends - 1] = gaps % LONG
    return packed.tobytes()


def unpack_places(packed: bytes) -> Places:
    """The inverse of `pack_places`, for any bytes: the places rise strictly, and bytes after the last one are no place."""
    steps = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(steps != LONG)
    return np.cumsum(steps, dtype=np.int64)[ends] + np.arange(len(ends))
