"""How long it takes from bare hosts to a proven fleet, and how long to find that nothing is to be done.

`up_seconds`: `edgefl up` of one coordinator and eight devices on the lab, with image and bundle cached and hosts created from
nothing; at most 120, goal 60. `noop_seconds`: the second `up`; at most 25, goal 10. Needs root.
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

LIMITS = {"up_seconds": 120, "noop_seconds": 25}


def edgefl(*argv: str) -> list[dict[str, Any]]:
    """Run a command and return what it said, line by line."""
    done = subprocess.run([sys.executable, "-m", "edgefl", *argv, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"edgefl {' '.join(argv)} failed with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def timed_up(site: Path) -> tuple[float, dict[str, float]]:
    """Wall seconds of one `up`, and of its stages."""
    began = time.monotonic()
    said = edgefl("up", "--site", str(site))
    return time.monotonic() - began, {stage["name"]: stage["seconds"] for stage in said[-1]["stages"]}


def prepare(site: Path) -> None:
    """The demo's site without its data: provisioning does not look at it."""
    devices = (Path(__file__).parent.parent / "sites" / "demo" / "site.yaml").read_text()
    site.mkdir(parents=True)
    for number in range(1, 9):
        (site / "data" / f"edge-{number:02}").mkdir(parents=True)
    (site / "site.yaml").write_text(devices)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    if os.geteuid():
        sys.exit("the lab needs root")
    with tempfile.TemporaryDirectory(prefix="edgefl-provision-") as folder:
        warm, site = Path(folder) / "warm", Path(folder) / "site"
        try:
            prepare(warm)
            edgefl("up", "--site", str(warm))  # builds the image, the bundle and the layer where they are missing
            edgefl("down", "--site", str(warm), "--yes")
            prepare(site)
            up, stages = timed_up(site)
            noop, noop_stages = timed_up(site)
        finally:
            for place in (warm, site):
                if place.exists():
                    edgefl("down", "--site", str(place), "--yes")
    figures = {"up_seconds": round(up, 1), "noop_seconds": round(noop, 1), "up_stages": stages, "noop_stages": noop_stages}
    if as_json:
        print(json.dumps(figures))
        return
    for name, limit in LIMITS.items():
        print(f"{name} {figures[name]} (at most {limit})")
    for name, taken in (("up", stages), ("second up", noop_stages)):
        print(f"  {name}: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in taken.items()))


if __name__ == "__main__":
    main()
