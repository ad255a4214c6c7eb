"""Rounds that had a device less because keys of the fleet or its root were replaced meanwhile; for a site that is provisioned.

`python benchmarks/life_rotation.py SITE --json`. In a run keys are replaced twice, by `edgefl certs rotate` and by each
host's own renewal, which a timer would start in time; in another one, another root takes over.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgefl.lab.hosts import Lab
from edgefl.site import load

RENEW_NOW = """\
d=/run/systemd/system/edgefl-renewal.service.d
mkdir -p $d && printf '[Service]\\nEnvironment=EDGEFL_RENEW=now\\n' > $d/now.conf
systemctl daemon-reload && systemctl start edgefl-renewal; code=$?
rm -r $d; systemctl daemon-reload; exit $code
"""
_PATIENCE_S = 300.0


def edgefl(site: Path, *argv: str) -> dict[str, Any]:
    """The result of a command; what it says when it fails ends the program."""
    command = [sys.executable, "-m", "edgefl", *argv, "--site", str(site), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout or (done.returncode and argv[0] != "status"):
        sys.exit(f"edgefl {' '.join(argv)} failed with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def training(site: Path, rounds: int) -> Iterator[subprocess.Popen[str]]:
    """A run while the block goes on; its second round is under way when the block begins."""
    command = [sys.executable, "-m", "edgefl", "run", "--site", str(site), "--rounds", str(rounds), "--json"]
    before = edgefl(site, "status")["run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        gives_up = time.monotonic() + _PATIENCE_S
        while (now := edgefl(site, "status"))["run"] == before or now["round"] < 2:
            if time.monotonic() > gives_up or process.poll() is not None:
                process.terminate()
                sys.exit("the run did not come to its second round")
            time.sleep(0.5)
        yield process


def missed(said: str, devices: Sequence[str], rounds: int) -> int:
    """Of so many rounds, those that did not count or had a device less, by what `edgefl run --json` said."""
    events = [json.loads(line) for line in said.splitlines()]
    done = [one["detail"] for one in events if one.get("type") == "finished" and one.get("subject", "").startswith("round ")]
    return rounds - sum(sorted(one["participants"]) == sorted(devices) and not one["dropped"] for one in done)


def missed_rounds_leaf_rotation(site: Path, rounds: int = 12) -> int:
    """Rotate every host's keys by the operator, then by each host itself, in the middle of a run of the lab's site."""
    loaded = load(site)
    lab = Lab(loaded.state / "lab", loaded.infrastructure.network)
    with training(site, rounds) as process:
        edgefl(site, "certs", "rotate")
        for host in loaded.hosts:
            done = lab.execute(host.name, ["sh", "-c", RENEW_NOW], timeout_s=120)
            if done.returncode:
                sys.exit(f"{host.name} did not renew its certificates: {done.stdout}{done.stderr}")
        return _missed(process, site, rounds)


def missed_rounds_ca_rotation(site: Path, rounds: int = 12) -> int:
    """Give the site another root in the middle of a run, and let the older one go once it is over."""
    with training(site, rounds) as process:
        edgefl(site, "certs", "rotate-ca")
        found = _missed(process, site, rounds)
    edgefl(site, "certs", "rotate-ca", "--finish")
    return found


def _missed(process: subprocess.Popen[str], site: Path, rounds: int) -> int:
    """What the run missed, once it is certain that it was going until now."""
    if process.poll() is not None:
        sys.exit("the run was over before every key was replaced: give it more rounds")
    return missed(process.communicate()[0], [device.name for device in load(site).devices], rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {
        "missed_rounds_leaf_rotation": missed_rounds_leaf_rotation(options.site, options.rounds),
        "missed_rounds_ca_rotation": missed_rounds_ca_rotation(options.site, options.rounds),
    }
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
