"""An update as few bytes, and back: quantised whole, or its largest values alone (top-k), either way packed by zstandard.

Layout: the header (HEADER, little-endian: magic, mode, bits, length of the update, values kept, bytes of the first frame), then
a zstandard frame of scales (float32, one per BLOCK values) and codes and, for top-k, another of the places as gaps (packing.py):
codes and gaps are distributed differently, and apart each is as small as its entropy, an eighth less than together.

The bytes come from a device that may be hostile: every count is checked before memory is taken for it.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from edgefl.federation.compression import packing
from edgefl.site.model import Compression

Vector = NDArray[np.float32]

HEADER: Final = struct.Struct("<4sBBIII")
MAGIC: Final = b"EFD2"
DENSE, SPARSE = 0, 1
BLOCK = 4096
"""Values that share a scale: few enough that one large value spoils the resolution of few others."""
LEVEL = 3
"""Of zstandard; higher ones gain less than 1 % and cost a device seconds."""


class Malformed(ValueError):
    """Bytes that are no encoded update; the text says why."""


def encode(delta: Vector, settings: Compression) -> bytes:
    """The update as `settings` demands. delta: (p,) float32, finite."""
    if settings.mode == "top-k":
        places = largest(delta, max(1, round(settings.keep * len(delta))))
        kept, gaps, mode = delta[places], packing.pack_places(places), SPARSE
    else:
        kept, gaps, mode = delta, b"", DENSE
    scales, codes = quantise(kept, settings.bits)
    packer = zstandard.ZstdCompressor(level=LEVEL)
    values = packer.compress(scales.astype("<f4").tobytes() + packing.pack_codes(codes, settings.bits))
    header = HEADER.pack(MAGIC, mode, settings.bits, len(delta), len(kept), len(values))
    return header + values + (packer.compress(gaps) if mode == SPARSE else b"")


def decode(payload: bytes, length: int) -> Vector:
    """The update that was encoded, (length,) float32; finite unless a scale is not. Raises Malformed."""
    if len(payload) < HEADER.size:
        raise Malformed(f"{len(payload)} bytes are no encoded update")
    magic, mode, bits, told, kept, first = HEADER.unpack_from(payload)
    if magic != MAGIC or mode not in (DENSE, SPARSE) or not 1 <= bits <= 16:
        raise Malformed("its header is none of an encoded update")
    if told != length or not 0 < kept <= length or (mode == DENSE and kept != length):
        raise Malformed(f"it says {kept} of {told} values, and the model has {length}")
    scales_end = 4 * -(-kept // BLOCK)
    codes_end = scales_end + packing.packed_size(bits, kept)
    frames = payload[HEADER.size : HEADER.size + first], payload[HEADER.size + first :]
    body = _decompressed(frames[0], codes_end)
    if len(body) != codes_end or (mode == DENSE and frames[1]):
        raise Malformed(f"{len(body)} bytes do not hold {kept} values")
    scales = np.frombuffer(body[:scales_end], "<f4").astype(np.float32)
    values = restore(scales, packing.unpack_codes(body[scales_end:], bits, kept), bits)
    if mode == DENSE:
        return values
    places = packing.unpack_places(_decompressed(frames[1], kept + length // packing.LONG))
    if len(places) != kept or places[-1] >= length:
        raise Malformed("its places are not those of its values")
    delta = np.zeros(length, np.float32)
    delta[places] = values
    return delta


def largest(values: Vector, count: int) -> NDArray[np.int64]:
    """The places of the `count` values of largest magnitude, rising; among equals the first ones."""
    size = np.abs(values)
    limit = np.partition(size, len(size) - count)[len(size) - count]
    above = np.flatnonzero(size > limit)
    equal = np.flatnonzero(size == limit)[: count - len(above)]
    return np.sort(np.concatenate([above, equal]))


def quantise(values: Vector, bits: int) -> tuple[Vector, NDArray[np.uint16]]:
    """Each value as the nearest of 2**bits - 1 levels between -max and max of its block; with one bit its sign, at the block's
    mean magnitude. Returns (a scale per block, a code per value).
    """
    blocks = np.zeros((-(-len(values) // BLOCK), BLOCK), np.float32)
    blocks.ravel()[: len(values)] = values
    if bits == 1:
        counts = np.minimum(BLOCK, len(values) - BLOCK * np.arange(len(blocks)))
        scales = (np.abs(blocks).sum(axis=1, dtype=np.float64) / counts).astype(np.float32)
        codes = blocks >= 0
    else:
        levels = (1 << (bits - 1)) - 1
        scales = np.abs(blocks).max(axis=1) / np.float32(levels)
        steps = np.where(scales > 0, scales, np.float32(1))[:, None]
        codes = np.clip(np.rint(blocks / steps), -levels, levels) + levels
    return scales, codes.astype(np.uint16).ravel()[: len(values)]


def restore(scales: Vector, codes: NDArray[np.uint16], bits: int) -> Vector:
    """The values that the codes stand for, (n,) float32."""
    signed = codes.astype(np.float32) * 2 - 1 if bits == 1 else codes.astype(np.float32) - np.float32((1 << (bits - 1)) - 1)
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile scale gives what is not finite, and is rejected as such
        values: Vector = signed * np.repeat(scales, BLOCK)[: len(codes)]
    return values


def _decompressed(frame: bytes, most: int) -> bytes:
    """The frame's content, refused before it is unpacked where it says that it is larger than `most`."""
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= most:
            raise Malformed(f"it unpacks to {size} bytes, and {most} are the most that it can need")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"it cannot be unpacked: {error}") from error
