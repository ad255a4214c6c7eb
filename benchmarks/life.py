"""What happens to a fleet after its first day, measured on the lab in the middle of a run. Needs root.

`revocation_seconds`: from the command to the last request that the gate accepted on a connection that lived under the revoked
certificate; at most 10. `quarantine_seconds`: until the device's own firewall and services had followed, too; at most 10.
Each measure is a function that takes the fleet, which it leaves as it found it, and returns its figures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefl.lab.hosts import Lab
from edgefl.site import load

LIMITS = {"revocation_seconds": 10.0, "quarantine_seconds": 10.0}
_DEVICE = "edge-03"
_PATIENCE_S = 300.0
_CALLER = """\
import http.client, ssl, sys, time
context = ssl.create_default_context(cafile="/etc/edgefl/identity/ca.crt")
context.check_hostname = False
context.load_cert_chain("/etc/edgefl/identity/device.crt", "/etc/edgefl/identity/device.key")
connection = http.client.HTTPSConnection(sys.argv[1], 7443, context=context, timeout=3)
try:
    while True:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 503:
            break
        print(time.time(), flush=True)
        time.sleep(0.02)
except (OSError, http.client.HTTPException):
    pass
"""
"""A device that never lets go of its connection: when the gate let a request of it pass (404, since that path is nobody's)."""


@dataclass(frozen=True)
class Fleet:
    """A lab site of four devices, provisioned."""

    directory: Path

    def edgefl(self, command: str, *argv: str) -> list[dict[str, Any]]:
        """Run a command and return what it said, line by line."""
        line = [sys.executable, "-m", "edgefl", command, "--site", str(self.directory), *argv, "--json"]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"edgefl {command} failed with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return [json.loads(said) for said in done.stdout.splitlines()]

    @property
    def lab(self) -> Lab:
        """Its hosts."""
        site = load(self.directory)
        return Lab(site.state / "lab", site.infrastructure.network)

    @contextmanager
    def training(self, rounds: int = 100) -> Iterator[None]:
        """The middle of a run."""
        line = [sys.executable, "-m", "edgefl", "run", "--site", str(self.directory), "--rounds", str(rounds), "--json"]
        with subprocess.Popen(line, stdout=subprocess.DEVNULL) as going:
            try:
                self.until(lambda: int(self.status()["round"]) >= 2, "the second round")
                yield
            finally:
                self.edgefl("stop", "--why", "measured")
                going.wait(_PATIENCE_S)

    def status(self) -> dict[str, Any]:
        """`edgefl status`, which ends with 70 while anything needs attention."""
        line = [sys.executable, "-m", "edgefl", "status", "--site", str(self.directory), "--json"]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        ends = time.monotonic() + _PATIENCE_S
        while not holds():
            if time.monotonic() > ends:
                sys.exit(f"waited {_PATIENCE_S:.0f} s for {what}")
            time.sleep(0.2)


def quarantine(fleet: Fleet) -> dict[str, float]:
    """Cut a device off while it calls the gate without pause on one connection; then take it back."""
    lab = fleet.lab
    coordinator = lab.read("coordinator")
    if coordinator is None:
        sys.exit("the lab has no coordinator")
    address = str(coordinator.spec.address)
    as_node = ["setpriv", "--reuid", "edgefl-node", "--regid", "edgefl-node", "--clear-groups", "python3", "-c", _CALLER, address]
    seen: list[float] = []

    def call() -> None:
        said = lab.execute(_DEVICE, ["sh", "-c", 'exec "$@" > /run/called', "sh", *as_node], timeout_s=_PATIENCE_S)
        if said.returncode:
            sys.stderr.write(said.stderr)
        seen.extend(map(float, lab.execute(_DEVICE, ["cat", "/run/called"]).stdout.split()))

    with fleet.training():
        calling = threading.Thread(target=call)
        calling.start()
        fleet.until(lambda: bool(lab.execute(_DEVICE, ["cat", "/run/called"]).stdout), "the caller's first answer")
        began = time.time()
        fleet.edgefl("quarantine", _DEVICE, "--why", "measured", "--yes")
        ended = time.time()
        calling.join(_PATIENCE_S)
        fleet.edgefl("release", _DEVICE, "--why", "measured")
    return {"revocation_seconds": round(max(seen) - began, 2), "quarantine_seconds": round(ended - began, 2)}


def give_data(directory: Path) -> None:
    """Each device its own few images: what is measured is the life of a fleet, not how it learns."""
    make = [sys.executable, "-m", "edgefl.lab.data", "--task", "images", "--devices", "4", "--records", "600"]
    subprocess.run([*make, "--out", str(directory / "data")], check=True, capture_output=True)
    path = directory / "site.yaml"
    path.write_text(re.sub(r"- name: (edge-\d+)", r"- name: \1\n    data: data/\1", path.read_text()))


MEASURES: Mapping[str, Callable[[Fleet], Mapping[str, float]]] = {"quarantine": quarantine}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of {', '.join(MEASURES)} (default: all)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.measures) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    if os.geteuid():
        sys.exit("the lab needs root")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="edgefl-life-") as folder:
        site = Path(folder) / "site"
        subprocess.run([sys.executable, "-m", "edgefl", "init", str(site), "--devices", "4"], check=True, capture_output=True)
        give_data(site)
        fleet = Fleet(site)
        try:
            fleet.edgefl("up")
            for name in args.measures or MEASURES:
                figures |= MEASURES[name](fleet)
        finally:
            fleet.edgefl("down", "--yes")
    if args.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name} {figure} (at most {LIMITS[name]:g})")


if __name__ == "__main__":
    main()
