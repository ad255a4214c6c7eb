"""Sorting networks, pruned to what is asked of them.

A network compares fixed places whatever the values are, so each comparison is one np.minimum and one np.maximum over whole
columns: no branches, full vector width. Batcher's odd-even merge sort (1968), minus every comparison that cannot change the
wanted output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache

NETWORK_MOST = 32
"""Rows that NumPy takes through a network."""


class Keep(IntFlag):
    """Which outputs of a comparison are needed."""

    LOW = 1
    HIGH = 2
    BOTH = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """Put the smaller of two places at `low` and the larger at `high`, or only the one that is kept."""

    low: int
    high: int
    keep: Keep


@lru_cache(maxsize=64)
def trimming_network(count: int, trim: int, run: int = 1) -> tuple[Comparison, ...]:
    """The comparisons after which places `trim` … `count - trim - 1` hold the middle values, in any order among themselves.

    run: a power of two; each whole run of so many places is sorted already. Raises ValueError unless 0 <= 2 * trim < count.
    """
    if not 0 <= 2 * trim < count:
        raise ValueError(f"cannot trim {trim} at each end of {count}")
    middle = range(trim, count - trim)
    needed = [place in middle for place in range(count)]
    # Until a later comparison touches it, a place's value goes straight to the output.
    direct = [True] * count
    kept: list[Comparison] = []
    for low, high in reversed(list(_batcher(count, run))):
        if not needed[low] and not needed[high]:
            continue
        if needed[low] and needed[high] and direct[low] and direct[high]:
            continue  # both end in the middle, where order does not matter
        kept.append(Comparison(low, high, Keep.BOTH if needed[low] and needed[high] else Keep.LOW if needed[low] else Keep.HIGH))
        needed[low] = needed[high] = True
        direct[low] = direct[high] = False
    return tuple(reversed(kept))


Crossing = tuple[int, int, int, int]
"""Places a, b, c, d: the comparisons (a, c) and (b, d), then (b, c), which together fetch and put back four values, not six."""


def crossings(network: Sequence[Comparison]) -> Iterator[Comparison | Crossing]:
    """The same network, with most comparisons of two layers that follow each other as crossings."""
    last: dict[int, int] = {}  # place → the step that touched it last
    following: dict[tuple[int, int], int] = {}  # step, place → the next step that touches it
    crossing: dict[int, Crossing] = {}
    within: set[int] = set()
    for number, step in enumerate(network):
        for place in (step.low, step.high):
            if place in last:
                following[last[place], place] = number
        upper, lower = last.get(step.low), last.get(step.high)
        last[step.low] = last[step.high] = number
        if upper is None or lower is None or upper == lower or {upper, lower} & within:
            continue
        members = (network[lower].low, network[upper].low, network[lower].high, network[upper].high)
        if members[1:3] != (step.low, step.high) or not all(network[one].keep is Keep.BOTH for one in (upper, lower, number)):
            continue
        # All three take the place of the later one of the two: until then nobody may ask for what the earlier one gives.
        first, second = sorted((upper, lower))
        if all(following.get((first, place), number) > second for place in (network[first].low, network[first].high)):
            crossing[second] = members
            within |= {upper, lower, number}
    for number, step in enumerate(network):
        if number in crossing:
            yield crossing[number]
        elif number not in within:
            yield step


def _batcher(count: int, run: int) -> Iterator[tuple[int, int]]:
    """Batcher's network for any count: that for the next power of two without the comparisons beyond the end, nor those that
    sort whole runs.
    """
    width = 1
    while width < count:
        stride = width
        while stride >= 1:
            for start in range(stride % width, count - stride, 2 * stride):
                for place in range(start, min(start + stride, count - stride)):
                    known = width < run and place // run < count // run
                    if place // (2 * width) == (place + stride) // (2 * width) and not known:
                        yield place, place + stride
            stride //= 2
        width *= 2
