"""Work spread over the machine's cores; NumPy, BLAS and the compiled kernels let go of the interpreter meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")
SHARES = 4
"""Per core: handing over a share costs as much as a small part's work, and whoever is held up holds up no more than that."""


def count() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def each(work: Callable[[Part], Made], parts: Sequence[Part]) -> list[Made]:
    """What `work` makes of each part, in their order; this thread and one for each further core take shares of them."""
    helpers = min(count(), len(parts)) - 1
    if helpers < 1:
        return [work(part) for part in parts]
    size = -(-len(parts) // (SHARES * (helpers + 1)))
    shares = [parts[start : start + size] for start in range(0, len(parts), size)]

    def make(share: Sequence[Part]) -> list[Made]:
        return [work(part) for part in share]

    with ThreadPoolExecutor(helpers) as pool:
        given = [pool.submit(make, share) for share in shares]
        # The others begin at the front; from the back this thread takes what nobody has begun.
        own = {place: make(shares[place]) for place in reversed(range(len(shares))) if given[place].cancel()}
        made = [own[place] if place in own else given[place].result() for place in range(len(shares))]
    return [one for share in made for one in share]
