"""How fast the rules are against Flower's built-ins, on the same updates in the same run.

Flower's side is its own code: `trim_mean` and `np.median` over stacked arrays as FedTrimmedAvg and FedMedian call them, and
`select_multikrum` with `aggregate_arrayrecords` as MultiKrum does. Ours is the whole of it: deltas from models, the Gram
matrix, scores for every update, the result. A figure such as `trimmed_mean_n50_p1e6` says how many times faster ours is; `_ms`
what ours took.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import build
from edgefl.federation.aggregation.vectors import Template

SIZES = [(10, 10**5), (10, 10**6), (10, 10**7), (50, 10**5), (50, 10**6), (200, 10**5), (200, 10**6)]
BYZANTINE = 0.2
GOALS = {"trimmed_mean": 10, "median": 8, "multi_krum": 5}
"""Times faster, at every size with 50 updates or more."""

Model = dict[str, np.ndarray]


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Shortest of several runs: what the machine's other work adds is never negative."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
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
    deltas = np.empty((len(updates), template.size), np.float32)

    def work() -> object:
        for row, update in zip(deltas, updates, strict=True):
            template.delta(update, start, out=row)
        return template.moved(start, chosen.aggregate(deltas, names, samples, Reputation()).delta)

    return work


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="only up to 50 updates of 1e6 values")
    given = parser.parse_args()
    figures: dict[str, float] = {}
    for count, length in SIZES:
        if given.quick and (count > 50 or length > 10**6):
            continue
        start, updates = models(count, length)
        repeats = 5 if count * length <= 10**7 else 2
        size = f"n{count}_p1e{len(str(length)) - 1}"
        for rule in GOALS:
            name = f"{rule}_{size}"
            mine = seconds(ours(rule.replace("_", "-"), start, updates), repeats + 1)
            figures[name] = round(seconds(flower(rule, updates, int(BYZANTINE * count)), repeats) / mine, 1)
            figures[f"{name}_ms"] = round(mine * 1000, 1)
            if not given.json:
                print(f"{name:28} {figures[name]:6.1f} x   {figures[f'{name}_ms']:9.1f} ms", flush=True)
        figures[f"guard_{size}_ms"] = round(seconds(ours("guard", start, updates), repeats) * 1000, 1)
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
