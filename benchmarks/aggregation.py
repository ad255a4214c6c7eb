"""How fast the rules are against Flower's built-ins, on the same updates in the same run.

Flower's side is its own code: `trim_mean` and `np.median` over stacked arrays as FedTrimmedAvg and FedMedian call them, and
`select_multikrum` with `aggregate_arrayrecords` as MultiKrum does. Ours is the whole of it: deltas from models, the Gram
matrix, scores for every update, the result. A figure such as `trimmed_mean_n50_p1e6` says how many times faster ours is; `_ms`
what ours took.

`read_passes` is how often the slowest of our rules reads the updates: an array that counts its own bytes stands in for them, and
every slice of it that an operation takes as an argument counts, so one that reads a cached row twice counts twice, and so do both
sides of a matrix times itself. What is made of them by then (sorted chunks, sums) is no longer the updates and not counted.
`memory_ratio` is the largest peak of a rule's allocations (tracemalloc sees NumPy's) and the updates together, over the updates,
with 10 updates of 1e6 values and 50 of 4e5. Both are over all rules, and of our aggregation alone.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from edgefl.federation.aggregation.limits import RULES
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import build
from edgefl.federation.aggregation.vectors import Template, room

SIZES = {
    f"n{count}_p1e{power}": (count, 10**power)
    for count, power in ((10, 5), (10, 6), (10, 7), (50, 5), (50, 6), (200, 5), (200, 6))
}
BYZANTINE = 0.2
GOALS = {"trimmed_mean": 10, "median": 8, "multi_krum": 5}
"""Times faster, at every size with 50 updates or more."""

Model = dict[str, np.ndarray]


def seconds(*works: Callable[[], object], repeats: int) -> list[float]:
    """Shortest of several runs of each, which take turns so that all have the same weather: what the machine's other work adds is
    never negative.
    """
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for place, work in enumerate(works):
            began = time.perf_counter()
            work()
            best[place] = min(best[place], time.perf_counter() - began)
    return best


def models(count: int, length: int) -> tuple[Model, list[Model]]:
    """A global model of three layers and what devices made of it."""
    rng = np.random.default_rng(7)
    parts = {"conv": length // 10, "hidden": length - length // 10 - length // 100, "output": length // 100}
    start = {name: rng.standard_normal(size, dtype=np.float32) for name, size in parts.items()}
    return start, [
        {name: array + np.float32(0.01) * rng.standard_normal(array.shape, dtype=np.float32) for name, array in start.items()}
        for _ in range(count)
    ]


def flower(rule: str, updates: list[Model], malicious: int) -> Callable[[], object]:
    """Flower's built-in of that name."""
    if rule == "trimmed_mean":
        return lambda: [trim_mean(np.stack([update[name] for update in updates]), BYZANTINE) for name in updates[0]]
    if rule == "median":
        return lambda: [np.median(np.stack([update[name] for update in updates]), axis=0) for name in updates[0]]
    contents = [
        RecordDict(
            {"arrays": ArrayRecord.from_numpy_ndarrays(list(update.values())), "metrics": MetricRecord({"num-examples": 1})}
        )
        for update in updates
    ]
    chosen = len(updates) - malicious
    return lambda: aggregate_arrayrecords(select_multikrum(contents, malicious, chosen), "num-examples")


def ours(rule: str, start: Model, updates: list[Model]) -> Callable[[], object]:
    """The same by our rule, from models to the next model."""
    template = Template.of(start)
    chosen = build(rule, BYZANTINE)
    names = [f"edge-{place}" for place in range(len(updates))]
    samples = np.full(len(updates), 1000)
    deltas = room(len(updates), template.size)

    def work() -> object:
        template.deltas(updates, start, out=deltas)
        return template.moved(start, chosen.aggregate(deltas, names, samples, Reputation()).delta)

    return work


class Counted(np.ndarray):
    """Updates that count the bytes of them that are read; buffers made like them (np.empty_like) do not count."""

    updates: ClassVar[np.ndarray]
    reads: ClassVar[list[int]] = []

    @classmethod
    def standing_for(cls, updates: np.ndarray) -> Counted:
        """The same memory, counted from now on."""
        cls.updates = updates
        cls.reads.clear()
        return updates.view(cls)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **named: Any) -> Any:
        self._read(*inputs)
        if out:
            named["out"] = tuple(map(_plain, out))
        return getattr(ufunc, method)(*map(_plain, inputs), **named)

    def __array_function__(self, function: Any, types: Any, arguments: Any, named: Any) -> Any:
        if function is np.concatenate:
            self._read(*arguments[0])
        return super().__array_function__(function, types, arguments, named)

    @property
    def ctypes(self) -> Any:
        """The address for a compiled kernel, which reads what is there once."""
        self._read(self)
        return _plain(self).ctypes

    def copy(self, order: Any = "C") -> Any:
        """A copy that is no longer counted."""
        self._read(self)
        return _plain(self).copy(order)

    def _read(self, *arrays: Any) -> None:
        for array in arrays:
            if isinstance(array, Counted) and np.may_share_memory(array, self.updates):
                self.reads.append(array.nbytes)


def _plain(array: Any) -> Any:
    return array.view(np.ndarray) if isinstance(array, Counted) else array


def read_passes(count: int, length: int) -> dict[str, float]:
    """Per rule, how often it reads all updates."""
    deltas = np.random.default_rng(3).standard_normal((count, length), dtype=np.float32)
    names, samples = [f"edge-{place}" for place in range(count)], np.full(count, 1000)
    passes = {}
    for rule in RULES:
        build(rule, BYZANTINE).aggregate(Counted.standing_for(deltas), names, samples, Reputation())
        passes[rule] = sum(Counted.reads) / deltas.nbytes
    return passes


def memory_ratio(count: int, length: int) -> float:
    """The most memory that a rule takes, updates included, over the updates."""
    deltas = np.random.default_rng(3).standard_normal((count, length), dtype=np.float32)
    names, samples = [f"edge-{place}" for place in range(count)], np.full(count, 1000)
    most = 0
    for rule in RULES:
        tracemalloc.start()
        build(rule, BYZANTINE).aggregate(deltas, names, samples, Reputation())
        most = max(most, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return 1 + most / deltas.nbytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE", help=", ".join(SIZES))
    given = parser.parse_args()
    figures: dict[str, float] = {}
    for size in given.sizes:
        count, length = SIZES[size]
        start, updates = models(count, length)
        repeats = max(2, min(15, 10**8 // (count * length)))
        for rule in GOALS:
            name = f"{rule}_{size}"
            theirs = flower(rule, updates, int(BYZANTINE * count))
            mine, flowers = seconds(ours(rule.replace("_", "-"), start, updates), theirs, repeats=repeats)
            figures[name] = round(flowers / mine, 1)
            figures[f"{name}_ms"] = round(mine * 1000, 1)
            if not given.json:
                print(f"{name:28} {figures[name]:6.1f} x   {figures[f'{name}_ms']:9.1f} ms", flush=True)
        (mine,) = seconds(ours("guard", start, updates), repeats=repeats)
        figures[f"guard_{size}_ms"] = round(mine * 1000, 1)
        if not given.json:
            print(f"{f'guard_{size}':40} {figures[f'guard_{size}_ms']:9.1f} ms", flush=True)
    passes = {f"{rule}_n{count}": reads for count in (10, 50) for rule, reads in read_passes(count, 10**5).items()}
    figures["read_passes"] = round(max(passes.values()), 1)
    figures["memory_ratio"] = round(max(memory_ratio(10, 10**6), memory_ratio(50, 4 * 10**5)), 2)
    if not given.json:
        print("\n".join(f"read passes {name:28} {reads:6.1f}" for name, reads in passes.items()))
        print(f"memory {figures['memory_ratio']} times the updates")
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
