"""What an audit takes: `audit_seconds` is `edgefl audit membership` of the demo's task, all of it.

Thirty-two models each at epsilon 1, 3, 5, 10 and without noise, both attacks, the report; `audit_cpu_seconds` is the same in CPU
time, which other work on the machine does not stretch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgefl.lab import data

TASK = "edgefl.federation.tasks.images"


def audit() -> dict[str, float]:
    """The figures; makes the data, then runs the program as the operator's process does."""
    with tempfile.TemporaryDirectory(prefix="edgefl-audit-") as directory:
        data.make("images", ["edge-01"], Path(directory) / "data")
        arguments = [f"--task={TASK}", f"--data={directory}/data/edge-01", f"--out={directory}/out"]
        began, cpu = time.monotonic(), _children_cpu()
        subprocess.run(
            [sys.executable, "-m", "edgefl.federation.privacy.audits", "membership", *arguments], check=True, capture_output=True
        )
        took, used = time.monotonic() - began, _children_cpu() - cpu
        levels = json.loads((Path(directory) / "out" / "report.json").read_text())["result"]["levels"]
    found = {f"audit_auc_{level['epsilon'] or 'inf'}": max(a["auc"]["value"] for a in level["attacks"]) for level in levels}
    return {"audit_seconds": round(took, 1), "audit_cpu_seconds": round(used, 1), **found}


def _children_cpu() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the last line, one JSON object")
    given = parser.parse_args()
    figures = audit()
    if not given.json:
        for name, value in figures.items():
            print(f"{name:20} {value:g}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
