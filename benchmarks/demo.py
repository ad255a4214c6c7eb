"""What the demo promises, held to figures: it is run from nothing, trained, and taken down again.

`run_seconds`: its 10 rounds with differential privacy and the guard, without `up`; at most 240. `total_seconds`: the whole
command. `accuracy` is to reach `clean_floor`, what the same run without the attacker reached less a tolerance, and `flagged` is
to be `compromised`. All but `total_seconds` is what the demo itself wrote into result.json. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT_S = 240


def edgefl(*argv: str) -> None:
    """Run a command; this ends with its words when it fails."""
    done = subprocess.run([sys.executable, "-m", "edgefl", *argv, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"edgefl {' '.join(argv)} failed with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def figures(result: dict[str, Any], total_seconds: float) -> dict[str, Any]:
    """The benchmark's figures from the demo's result.json."""
    stages = {stage["name"]: stage["seconds"] for stage in result["stages"]}
    return {
        "run_seconds": stages["run"],
        "limit_seconds": LIMIT_S,
        "total_seconds": round(total_seconds, 1),
        "rounds": result["run"]["rounds"],
        "accuracy": result["run"]["accuracy"],
        "clean_floor": result["run"]["clean_floor"],
        "flagged": [device["name"] for device in result["devices"] if device["flags"]],
        "compromised": result["compromised"],
        "stages": stages,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    if os.geteuid():
        sys.exit("the lab needs root")
    with tempfile.TemporaryDirectory(prefix="edgefl-demo-") as folder:
        site = Path(folder) / "site"
        began = time.monotonic()
        try:
            edgefl("demo", str(site))
            taken = time.monotonic() - began
            found = figures(json.loads((site / ".edgefl" / "result.json").read_text()), taken)
        finally:
            if site.exists():
                edgefl("down", "--site", str(site), "--yes")
    if as_json:
        print(json.dumps(found))
        return
    print(f"run_seconds {found['run_seconds']} for {found['rounds']} rounds (at most {LIMIT_S}), all {found['total_seconds']}")
    print(f"accuracy {found['accuracy']:.3f} (the clean run's floor {found['clean_floor']:.3f})")
    print(f"flagged {', '.join(found['flagged']) or 'nobody'} (compromised {', '.join(found['compromised'])})")
    print("  " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found["stages"].items()))


if __name__ == "__main__":
    main()
