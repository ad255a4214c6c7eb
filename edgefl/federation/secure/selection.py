"""Which values of an update a masked round sends, and within which ranges: the same for every device, or nothing would add up.

The coordinator chooses from what it knows, the last round's mean. Places: the largest values of that mean, and some at random,
without which others would never be heard of. Ranges: one for each BLOCK of values, from its size in that mean. What is not sent,
or lies beyond its range, a device adds to its next update (compression/feedback.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.compression.codec import BLOCK, largest
from edgefl.federation.compression.packing import pack_places, unpack_places
from edgefl.federation.secure.encoding import FixedPoint, Vector, bounded
from edgefl.federation.secure.masks import Words
from edgefl.federation.secure.vault import SecureRefused
from edgefl.site.model import Secure

EXPLORED = 0.3
"""Part of the places that are drawn at random."""
REACH = 4.0
"""A range in standard deviations of one device's values, where the mean of n devices is sqrt(n) times smaller than they are."""


@dataclass(frozen=True, slots=True)
class Selection:
    """places: packed gaps of the values that are sent, empty for all. ranges: float32, little-endian, one for each BLOCK of the
    whole update, empty where the values are sent in 32 bits.
    """

    places: bytes = b""
    ranges: bytes = b""

    @classmethod
    def choose(cls, secure: Secure, last: Vector | None, size: int, devices: int, generator: np.random.Generator) -> Selection:
        """The coordinator's choice for a round. last: the mean of the one before, (size,), or None. devices: of one sum."""
        places = b"" if secure.keep == 1 else pack_places(_places(secure.keep, last, size, generator))
        return cls(places, _ranges(last, devices).tobytes() if secure.bits < 32 and last is not None else b"")

    def code(self, devices: int) -> FixedPoint:
        """How the values are written, for a sum of so many devices."""
        return FixedPoint(8 if self.ranges else 32, devices)

    def chosen(self, size: int) -> NDArray[np.int64] | None:
        """The places of an update of `size` values; None for all of them. Raises SecureRefused where they are none."""
        if not self.places:
            return None
        places = unpack_places(self.places)
        if not 0 < len(places) <= size or places[-1] >= size:
            raise SecureRefused(f"the coordinator asks for values that the model of {size} does not have")
        return places

    def count(self, size: int) -> int:
        """How many values are sent of an update of `size`."""
        places = self.chosen(size)
        return size if places is None else len(places)

    def encode(self, whole: Vector, secure: Secure, devices: int) -> tuple[Words, Vector]:
        """The words to send of an update, and the update that they stand for. whole: (p,) float32, finite."""
        places, code = self.chosen(len(whole)), self.code(devices)
        ranges = self._spread(len(whole), places, secure)
        words = code.encode(bounded(whole if places is None else whole[places], secure.clip), ranges)
        return words, self._placed(code.decode(words, ranges), places, len(whole))

    def decode(self, words: Words, size: int, secure: Secure, devices: int) -> Vector:
        """The sum, (size,) float32, that the words of a sum stand for."""
        places = self.chosen(size)
        return self._placed(self.code(devices).decode(words, self._spread(size, places, secure)), places, size)

    def _spread(self, size: int, places: NDArray[np.int64] | None, secure: Secure) -> Vector | float:
        if not self.ranges:
            return secure.clip
        if len(self.ranges) != 4 * -(-size // BLOCK):
            raise SecureRefused(f"the coordinator's ranges do not fit the model of {size} values")
        ranges = np.frombuffer(self.ranges, "<f4").astype(np.float32)
        if not (np.isfinite(ranges) & (ranges > 0)).all():
            raise SecureRefused("the coordinator's ranges are no positive numbers")
        return np.repeat(ranges, BLOCK)[:size] if places is None else ranges[places // BLOCK]

    @staticmethod
    def _placed(values: Vector, places: NDArray[np.int64] | None, size: int) -> Vector:
        if places is None:
            return values
        whole = np.zeros(size, np.float32)
        whole[places] = values
        return whole


def _places(keep: float, last: Vector | None, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    count = max(1, round(keep * size))
    best = largest(last, count - round(EXPLORED * count)) if last is not None else np.empty(0, np.int64)
    is_open = np.ones(size, bool)
    is_open[best] = False
    drawn = generator.choice(np.flatnonzero(is_open), count - len(best), replace=False)
    return np.sort(np.concatenate([best, drawn]))


def _ranges(last: Vector, devices: int) -> NDArray[np.float32]:
    blocks = np.zeros((-(-len(last) // BLOCK), BLOCK), np.float64)
    blocks.ravel()[: len(last)] = last
    told = np.count_nonzero(blocks, axis=1)
    mean_square = (blocks**2).sum(axis=1) / np.maximum(told, 1)
    usual = float((blocks**2).sum() / max(1, told.sum())) or 1.0
    # A block of which nothing was sent has the range of the usual one.
    return (REACH * sqrt(devices) * np.sqrt(np.where(mean_square > 0, mean_square, usual))).astype("<f4")
