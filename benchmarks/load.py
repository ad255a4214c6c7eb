"""The monitor under load on loopback: 1,000 devices whose events are written, 50 consoles that follow, by Locust (locustfile.py).

The real monitor serves a journal behind a real gate over mutual TLS. `--devices` each have an event written every `--every` s,
for `--seconds`, all of them beginning within ten; `--consoles` follow the stream all the while. The load's own process shares the
machine. Needs haproxy (tools/test-packages) and Locust (the extra `dev`).

`events_lost`: events that were taken (201) and are not in the journal exactly once, or did not come to a console; at most 0.
`silent_refusals`: refusals for load (429) that did not say when to come again; at most 0.
`failures`: requests that were neither taken nor told when to come again (reset, timeout, another answer), and events that were
still being asked for half a minute after the end; at most 0.
`memory_growth_mb`: the monitor's resident memory, its largest against that before the load, in MiB; at most 128.
`append_p99_ms`: from a device's request to its answer, 99th percentile, refusals among them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coordinator import coordinator
from verdict import verdict

from edgefl import layout
from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceState
from edgefl.infra.inventory import Inventory

LIMITS = {"events_lost": 0.0, "silent_refusals": 0.0, "failures": 0.0, "memory_growth_mb": 128.0}


def monitor() -> int:
    """The process of the monitor that this one started."""
    for thread in Path("/proc/self/task").iterdir():
        for child in (thread / "children").read_text().split():
            if b"edgefl.monitor.service" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    sys.exit("the monitor is gone")


def memory_mb(pid: int, field: str) -> float:
    """A figure of the kernel's on a process: VmRSS, now; VmHWM, the most ever."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def loaded(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What Locust's users saw."""
    own = directory / ".edgefl"
    address = Inventory.load(own / "inventory.json").coordinator.address
    told = {
        "LOAD_HOST": f"https://{address}:{layout.API_PORT}",
        "LOAD_OPERATOR": str(own / "operator"),
        "LOAD_DEVICES": str(args.devices),
        "LOAD_CONSOLES": str(args.consoles),
        "LOAD_EVERY_S": str(args.every),
        "LOAD_RESULT": str(directory / "result.json"),
    }
    users = args.devices + args.consoles
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(Path(__file__).with_name("locustfile.py")),
        "--headless",
        "--only-summary",
    ]
    command += ["--users", str(users), "--spawn-rate", str(max(1.0, users / 10)), "--run-time", f"{args.seconds:.0f}s"]
    command += ["--stop-timeout", "5", "--exit-code-on-error", "0"]
    with (directory / "locust.log").open("wb") as log:
        done = subprocess.run(command, env={**os.environ, **told}, stdout=log, stderr=log, check=False)
    result = directory / "result.json"
    if done.returncode != 0 or not result.exists():
        sys.exit(f"locust ended with {done.returncode}:\n{(directory / 'locust.log').read_text()[-2000:]}")
    said: dict[str, Any] = json.loads(result.read_text())
    return said


def measured(directory: Path, args: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    names = [f"edge-{number:04}" for number in range(args.devices)]
    with Journal(directory / "journal.db") as journal, coordinator(directory, names):
        pid = monitor()
        before = memory_mb(pid, "VmRSS")
        said = loaded(directory, args)
        most = memory_mb(pid, "VmHWM")
        bodies = (event.body for event in journal.events())
        written = Counter(body.detail for body in bodies if isinstance(body, DeviceState))
    lost = sum(written[f"load {number}"] != 1 for number in said["taken"])
    return {
        "events_lost": lost + said["missed"] + said["gaps"] + max(0, args.consoles - said["consoles"]),
        "silent_refusals": said["without_when"],
        "memory_growth_mb": most - before,
        "events": len(said["taken"]),
        "events_per_s": len(said["taken"]) / args.seconds,
        "refusals": said["told_again"],
        "failures": said["failures"],
        "append_p50_ms": said["p50_ms"],
        "append_p99_ms": said["p99_ms"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000, help="devices whose events are written")
    parser.add_argument("--consoles", type=int, default=50, help="consoles that follow")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two events of a device")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is measured, the first ten included")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        figures = measured(Path(directory), args)
    return verdict(figures, LIMITS, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
