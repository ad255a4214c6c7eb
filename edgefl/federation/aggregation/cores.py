"""Work spread over the machine's cores; NumPy, BLAS and the compiled kernels let go of the interpreter meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")


def count() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def each(work: Callable[[Part], Made], parts: Sequence[Part]) -> list[Made]:
    """What `work` makes of each part, in their order; this thread and one for each further core take what nobody has begun."""
    helpers = min(count(), len(parts)) - 1
    if helpers < 1:
        return [work(part) for part in parts]
    left, made = iter(range(len(parts))), dict[int, Made]()

    def take() -> None:
        for place in left:
            made[place] = work(parts[place])

    with ThreadPoolExecutor(helpers) as pool:
        others = [pool.submit(take) for _ in range(helpers)]
        take()
        for other in others:
            other.result()
    return [made[place] for place in range(len(parts))]
