"""What happens to a fleet after its first day, measured on the lab in the middle of runs. Needs root.

`missed_rounds_*`: rounds that did not count while every host got other keys (`leaf_rotation`: by the operator, then by itself),
another root (`ca_rotation`), another version (`upgrade`), and the one before it (`rollback`); for keys and root also those that a
device was not in, all 0. `short_rounds_*`: rounds that went on without a device which restarted with its version.
`revocation_seconds`: from the command to the last request that the gate accepted on a connection that lived, at most 10.
`quarantine_seconds`: until the device's own firewall and services had followed, at most 10. `drift_heal_seconds`: from a flushed
firewall to its rules, the slower of a device and the coordinator, at most 60. `forbidden_paths_open` of `paths_probed`, and
`secrets_found` in logs, journals, arguments, crashes, temporary and working files after all of it, 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefl.fleet import evidence
from edgefl.lab.hosts import Lab
from edgefl.site import load
from edgefl.site.model import Site

REPOSITORY = Path(__file__).parent.parent
RENEW_NOW = """\
d=/run/systemd/system/edgefl-renewal.service.d
mkdir -p $d && printf '[Service]\\nEnvironment=EDGEFL_RENEW=now\\n' > $d/now.conf
systemctl daemon-reload && systemctl start edgefl-renewal; code=$?
journalctl --no-pager --output=cat --lines=20 --unit=edgefl-renewal
rm -r $d; systemctl daemon-reload; exit $code
"""
"""What the timer does by itself once a certificate is due, now."""
CALLER = """\
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
_TABLE = ["nft", "--stateless", "list", "table", "inet", "edgefl"]
_PATIENCE_S = 300.0
_SECRETS: Mapping[str, Sequence[str]] = {
    "coordinator": ["/etc/edgefl/identity/*.key", "/etc/edgefl/identity/gate.pem", "/etc/edgefl/superexec.secret"],
    "device": ["/etc/edgefl/identity/*.key", "/etc/edgefl/signing/*.key", "/etc/edgefl/superexec.secret"],
}
_ON_HOSTS = {
    "the journal of its services": "journalctl --no-pager --output=export",
    "argument lists": "cat /proc/[0-9]*/cmdline",
    "what crashed": "cat /var/lib/systemd/coredump/* /var/crash/* /root/edgefl-crash.txt",
    "temporary files": "find /tmp /var/tmp /dev/shm -type f -exec cat {} +",
    "the event journal": "cat /var/lib/edgefl/journal/journal.db*",
}
_READABLE = r"tr -c '[:print:]' '\n'"
_OWNED = "/etc /var /opt /srv /root /home /tmp /usr/local"
"""Where a host's own files lie: what whoever steals its disk would read."""


def prepare(directory: Path, devices: int) -> None:
    """A site whose rounds are short: each device has its own few images, and a budget for both runs.

    How long rounds of a few seconds take says little on a machine with other work, and so does a loss under the noise of a run
    of hundreds of rounds: no version is taken back for these.
    """
    make = ["--task", "images", "--devices", str(devices), "--records", "600", "--out", str(directory / "data")]
    subprocess.run([sys.executable, "-m", "edgefl.lab.data", *make], check=True, capture_output=True)
    names = [f"edge-{number:02}" for number in range(1, devices + 1)]
    site = {
        "name": "life",
        "infrastructure": {"module": "lab"},
        "devices": [{"name": name, "data": f"data/{name}", "limits": {"cpu": 1.0, "memory_mb": 1536}} for name in names],
        "task": {"module": "edgefl.federation.tasks.images"},
        "privacy": {"epsilon_limit": 16.0},
        "upgrade": {"rounds": 1, "loss_margin": 9.0, "time_margin": 9.0},
    }
    (directory / "site.yaml").write_text(json.dumps(site))


def checkout(place: Path, module: str, more: str) -> Path:
    """A copy of edgefl with something more at the end of a module: another version, where it is run from there."""
    for part in ("edgefl", "playbooks", "terraform", "certs", "sites/demo"):
        shutil.copytree(REPOSITORY / part, place / part, ignore=shutil.ignore_patterns("__pycache__", ".edgefl", "data"))
    with (place / "edgefl" / module).open("a") as file:
        file.write(more)
    return place


def uncounted(rounds: Iterable[Mapping[str, Any]]) -> list[int]:
    """The numbers of the rounds, as `edgefl rounds --json` has them, that did not count."""
    return [row["number"] for row in rounds if row["state"] != "finished"]


def short(rounds: Iterable[Mapping[str, Any]], devices: Sequence[str]) -> list[int]:
    """The numbers of the rounds that did not count, or that a device was not in."""
    return [row["number"] for row in rounds if row["state"] != "finished" or sorted(row["participants"]) != sorted(devices)]


def paths(site: Site) -> tuple[int, int]:
    """`paths_probed` and `forbidden_paths_open` of the site's last proof (`edgefl verify`)."""
    proof = evidence.latest(site.state)
    if proof is None:
        raise RuntimeError("nothing was proven yet")
    return len(proof.results), sum(result.probe.expected == "closed" for result in proof.breaches)


def drift_heal_seconds(lab: Lab, host: str, *, within_s: float = 120.0) -> float:
    """Flush a host's firewall, and measure until its rules are back as they were. Raises TimeoutError."""
    before = lab.execute(host, _TABLE).stdout
    if not before:
        raise RuntimeError(f"{host} has no walls")
    began = time.monotonic()
    lab.execute(host, ["nft", "flush", "ruleset"])
    while lab.execute(host, _TABLE).stdout != before:
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"the walls of {host} are not back after {within_s:g} s")
        time.sleep(0.05)
    return time.monotonic() - began


def renew(lab: Lab, host: str) -> None:
    """Have a host renew its certificates by itself, as its timer would in time."""
    done = lab.execute(host, ["sh", "-c", RENEW_NOW], timeout_s=120)
    if done.returncode:
        raise RuntimeError(f"{host} did not renew its certificates: {done.stdout}{done.stderr}")


@dataclass(frozen=True)
class Fleet:
    """A lab site, provisioned."""

    directory: Path

    @property
    def site(self) -> Site:
        """What it is to be."""
        return load(self.directory)

    @property
    def lab(self) -> Lab:
        """Its hosts."""
        return Lab(self.site.state / "lab", self.site.infrastructure.network)

    def command(self, command: str, *argv: str) -> list[str]:
        """A command of edgefl on this site."""
        return [sys.executable, "-m", "edgefl", *command.split(), "--site", str(self.directory), *argv, "--json"]

    def edgefl(self, command: str, *argv: str, good: Sequence[int] = (0,), code: Path = REPOSITORY) -> dict[str, Any]:
        """Run a command, and return its result. code: the checkout whose edgefl it is."""
        env = os.environ | {"PYTHONPATH": str(code)}
        done = subprocess.run(self.command(command, *argv), capture_output=True, text=True, check=False, env=env, cwd=code)
        if done.returncode not in good:
            sys.exit(f"edgefl {command} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def status(self) -> dict[str, Any]:
        """`edgefl status`, which ends with 70 while anything needs attention."""
        return self.edgefl("status", good=(0, 70))

    @contextmanager
    def training(self, rounds: int = 200) -> Iterator[None]:
        """The middle of a run, which is stopped when the block ends."""
        before = self.status()["run"]
        with subprocess.Popen(self.command("run", "--rounds", str(rounds)), stdout=subprocess.DEVNULL) as going:
            try:
                self.until(lambda: (now := self.status())["run"] != before and now["round"] >= 2, "the second round")
                yield
                if going.poll() is not None:
                    sys.exit("the run was over before all was measured: it is to have more rounds")
            finally:
                self.edgefl("stop", "--why", "measured")
                going.wait(_PATIENCE_S)

    @contextmanager
    def rounds(self) -> Iterator[list[dict[str, Any]]]:
        """The rounds from the one that goes when the block begins to the first that begins after it; there when it has ended."""
        seen: list[dict[str, Any]] = []
        first = self.status()["round"]
        yield seen
        last = self.status()["round"] + 1
        self.until(lambda: self.status()["round"] > last, f"the end of round {last}")
        seen += [row for row in self.edgefl("rounds")["rounds"] if first <= row["number"] <= last]

    def changing(self, command: str, code: Path = REPOSITORY) -> subprocess.Popen[str]:
        """A command that brings another version, when all devices have it; the coordinator waits for the end of the run."""
        env = os.environ | {"PYTHONPATH": str(code)}
        process = subprocess.Popen(self.command(command), stdout=subprocess.PIPE, text=True, env=env, cwd=code)
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line)
            if "waits for the end of run" in line:
                return process
        sys.exit(f"edgefl {command} did not come to the coordinator, and ended with {process.wait()}: {''.join(said[-2:])}")

    def ended(self, process: subprocess.Popen[str]) -> None:
        """Wait for what `changing` left, now that no run is in its way."""
        rest = process.communicate(timeout=_PATIENCE_S)[0]
        if process.returncode:
            sys.exit(f"{process.args!r} ended with {process.returncode}: {rest[-2000:]}")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        ends = time.monotonic() + _PATIENCE_S
        while not holds():
            if time.monotonic() > ends:
                sys.exit(f"waited {_PATIENCE_S:.0f} s for {what}")
            time.sleep(0.2)


def quarantined(fleet: Fleet, device: str) -> dict[str, float]:
    """Cut a device off that calls the gate without pause on one connection, then take it back."""
    lab = fleet.lab
    address = str(lab.running("coordinator").spec.address)
    as_node = ["setpriv", "--reuid", "edgefl-node", "--regid", "edgefl-node", "--clear-groups", "python3", "-c", CALLER, address]
    calls = ["sh", "-c", 'exec "$@" > /run/called', "sh", *as_node]
    calling = threading.Thread(target=lambda: lab.execute(device, calls, timeout_s=_PATIENCE_S))
    calling.start()
    fleet.until(lambda: bool(lab.execute(device, ["cat", "/run/called"]).stdout), "the caller's first answer")
    began = time.time()
    fleet.edgefl("quarantine", device, "--why", "measured", "--yes")
    ended = time.time()
    calling.join(_PATIENCE_S)
    last = float(lab.execute(device, ["cat", "/run/called"]).stdout.split()[-1])
    fleet.edgefl("release", device, "--why", "measured")
    return {"revocation_seconds": round(last - began, 2), "quarantine_seconds": round(ended - began, 2)}


def measured(fleet: Fleet, other: Path) -> Iterator[dict[str, float]]:
    """Everything, in two runs, as it is known. other: a checkout of another version."""
    site, lab = fleet.site, fleet.lab
    devices = [device.name for device in site.devices]
    with fleet.training():
        healed = [drift_heal_seconds(lab, host) for host in (devices[0], site.coordinator.name)]
        yield {"drift_heal_seconds": round(max(healed), 2)}
        with fleet.rounds() as seen:
            fleet.edgefl("certs rotate")
            for host in site.hosts:
                renew(lab, host.name)
        yield {"missed_rounds_leaf_rotation": len(short(seen, devices))}
        with fleet.rounds() as seen:
            fleet.edgefl("certs rotate-ca")
        yield {"missed_rounds_ca_rotation": len(short(seen, devices))}
        yield quarantined(fleet, devices[-1])
        fleet.edgefl("verify")
        probed, opened = paths(site)
        yield {"paths_probed": probed, "forbidden_paths_open": opened}
        with fleet.rounds() as seen:
            upgrade = fleet.changing("upgrade", code=other)
        yield lost("upgrade", seen, devices)
    fleet.ended(upgrade)
    fleet.edgefl("certs rotate-ca", "--finish")
    with fleet.training():
        with fleet.rounds() as seen:
            rollback = fleet.changing("rollback")
        yield lost("rollback", seen, devices)
    fleet.ended(rollback)
    secrets = secrets_found(site, lab)
    sys.stderr.writelines(f"{one}\n" for one in secrets)
    yield {"secrets_found": len(secrets)}


def lost(what: str, rounds: Sequence[Mapping[str, Any]], devices: Sequence[str]) -> dict[str, float]:
    """Rounds that did not count, and those that went on without a device that restarted."""
    missed = len(uncounted(rounds))
    return {f"missed_rounds_{what}": missed, f"short_rounds_{what}": len(short(rounds, devices)) - missed}


def secrets_found(site: Site, lab: Lab) -> list[str]:
    """Where a private key or a shared secret lies that has no business there: `SECRET in PLACE`; empty when all is well.

    Searched are the operator's working state (Terraform's state, Ansible's records, proofs, crashes, without the authority's own
    directory and the lab's disks), and each host's logs, event journal, argument lists, core dumps and temporary files.
    """
    known = dict(_secrets(site, lab))
    places = dict(_places(site, lab))
    return [f"{name} in {place}" for name, secret in known.items() for place, text in places.items() if secret in text]


def foreign_keys(site: Site, lab: Lab, host: str) -> list[str]:
    """Private keys of other hosts, and of the site's authority, on a host's disk, by name."""
    known = {name: secret for name, secret in _secrets(site, lab) if not name.startswith(f"{host}:") and "secret" not in name}
    found = []
    for name, secret in known.items():
        search = f"grep --recursive --binary-files=text --files-with-matches --fixed-strings --file=- {_OWNED}"
        done = lab.execute(host, ["sh", "-c", search], secret.decode() + "\n", timeout_s=300)
        found += [f"{name} in {path}" for path in done.stdout.split()]
    return found


def _secrets(site: Site, lab: Lab) -> Iterator[tuple[str, bytes]]:
    """What nobody else may know, by name."""
    for host in site.hosts:
        kept = _SECRETS["coordinator" if host is site.coordinator else "device"]
        listed = lab.execute(host.name, ["sh", "-c", f"ls {' '.join(kept)}"]).stdout.split()
        for path in listed:
            yield f"{host.name}:{path}", _telling(lab.execute(host.name, ["cat", path]).stdout)
    for key in ("pki/root.key", "pki/issuing.key", "operator/operator.key"):
        yield f"operator:{key}", _telling((site.state / key).read_text())


def _telling(text: str) -> bytes:
    """The line of a key, or of a secret, that tells it from all others; certificates after a key are public."""
    key = text.partition("-----END")[0].splitlines()
    body = [line for line in key if line and not line.startswith("-----")]
    if not body:
        raise RuntimeError("there is no secret in the file")
    return body[1 if len(body) > 1 else 0].encode()  # the first line of a P-256 key is the same in all of them


def _places(site: Site, lab: Lab) -> Iterator[tuple[str, bytes]]:
    own = (site.state / "pki", site.state / "operator", site.state / "lab" / "hosts")
    for path in site.state.rglob("*"):
        if path.is_file() and path.suffix != ".whl" and not any(place in path.parents for place in own):
            yield str(path.relative_to(site.state)), path.read_bytes()
    for host in site.hosts:
        for place, command in _ON_HOSTS.items():
            said = lab.execute(host.name, ["sh", "-c", f"{{ {command}; }} 2>/dev/null | {_READABLE}"], timeout_s=120).stdout
            yield f"{host.name}: {place}", said.encode()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("the lab needs root")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="edgefl-life-") as folder:
        fleet = Fleet(Path(folder) / "site")
        prepare(fleet.directory, args.devices)
        try:
            fleet.edgefl("up")
            for figures in measured(fleet, checkout(Path(folder) / "other", "__init__.py", "\n# another version\n")):
                found |= figures
                sys.stderr.write(f"{figures}\n")
        finally:
            fleet.edgefl("down", "--yes")
    print(json.dumps(found) if args.json else "\n".join(f"{name} {figure:g}" for name, figure in found.items()))


if __name__ == "__main__":
    main()
