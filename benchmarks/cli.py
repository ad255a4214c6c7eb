"""How long the command line takes to answer, and what it must not load for that.

`help_ms` is the median wall time of `edgefl --help` over several runs, against an empty interpreter in the same run; at most 300.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

LIMIT_MS = 300
RUNS = 9


def median_ms(argv: list[str]) -> float:
    """Median wall time of a command in milliseconds, after one run that warms the disk cache."""
    subprocess.run(argv, capture_output=True, check=True)
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(argv, capture_output=True, check=True)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    interpreter = median_ms([sys.executable, "-c", "pass"])
    figures = {
        "help_ms": round(median_ms([sys.executable, "-m", "edgefl", "--help"]), 1),
        "command_help_ms": round(median_ms([sys.executable, "-m", "edgefl", "up", "--help"]), 1),
        "interpreter_ms": round(interpreter, 1),
        "limit_ms": LIMIT_MS,
    }
    if as_json:
        print(json.dumps(figures))
    else:
        print(f"edgefl --help {figures['help_ms']} ms (limit {LIMIT_MS}, an empty interpreter {figures['interpreter_ms']})")


if __name__ == "__main__":
    main()
