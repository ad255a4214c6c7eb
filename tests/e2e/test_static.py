"""Hosts that exist are adopted by address, one by one and with Ctrl-C on the way, and are left as they were.

The hosts are lab hosts that `edgefl lab up` booted by itself. The site knows nothing of a lab: its operator works from a
machine in their network, and has their addresses, an SSH key and their host keys.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgefl import layout
from edgefl.lab.hosts import Lab

from .conftest import Adopted, bare_hosts, in_background, interrupted, last_object

pytestmark = pytest.mark.e2e

NAMES = {"host-01": "clinic-hub", "host-02": "ward-a", "host-03": "ward-b"}
RECORDS = "/srv/records"
OWN_RULES = "table ip own {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
"""What a host's owner had in its firewall before edgefl came."""


@dataclass(frozen=True)
class Clinic(Adopted):
    """Three hosts, the site that adopts them, and what the hosts were before."""

    before: dict[str, dict[str, str]]

    @property
    def state(self) -> Path:
        return self.directory / ".edgefl"

    def cut_short(self, stage: str) -> int:
        with in_background("up", "--site", str(self.directory), "--json", within=self.network) as going:
            return interrupted(going, stage)

    def on(self, host: str, command: str, stdin: str | None = None) -> str:
        done = self.lab.execute(host, ["sh", "-c", command], stdin)
        assert done.returncode == 0, f"{host}: {command}: {done.stderr}"
        return done.stdout


@dataclass(frozen=True)
class Said:
    """What the commands said at one moment of the site's life."""

    up: subprocess.CompletedProcess[str]
    run: subprocess.CompletedProcess[str]
    status: subprocess.CompletedProcess[str]
    devices: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, clinic: Clinic) -> Said:
        up = clinic.edgefl("up")
        assert up.returncode == 0, up.stdout[-3000:] + up.stderr
        run, status, devices = (clinic.edgefl(command) for command in ("run", "status", "devices"))
        assert devices.returncode == 0, devices.stdout + devices.stderr
        return cls(up, run, status, {row["name"]: row for row in last_object(devices)["devices"]})


FILES = "/etc/edgefl /opt/edgefl /var/cache/edgefl/bundle /run/edgefl* /var/spool/edgefl /etc/systemd/system/*edgefl*"


def picture(lab: Lab, host: str) -> dict[str, str]:
    """What edgefl changes on a host, as it is now."""
    looks = {
        "firewall": "nft --stateless list ruleset",
        "units": "systemctl list-unit-files --no-legend 'edgefl*' 'nftables*' 'walls*' 'haproxy*'",
        "running": "systemctl list-units --no-legend --plain --state=active,failed 'edgefl*' 'nftables*' 'walls*' 'haproxy*'",
        "processes": "ps -eo user:32 | grep -c '^edgefl-' || true",
    }
    return {what: lab.execute(host, ["sh", "-c", look]).stdout for what, look in looks.items()}


def written(directory: Path, lab: Lab, hosts: list[dict[str, Any]]) -> None:
    """The site.yaml of an operator who knows the hosts' addresses and keys."""
    said = {host["name"]: f"address: {host['address']}, ssh_key: {lab.key}, host_key: {host['host_key']}" for host in hosts}
    devices = "".join(
        f"  - {{name: {NAMES[host]}, data: {RECORDS}, {said[host]}}}\n" for host in said if NAMES[host].startswith("ward")
    )
    (directory / "site.yaml").write_text(
        f"name: clinic\ninfrastructure: {{module: static}}\ncoordinator: {{name: clinic-hub, {said['host-01']}}}\n"
        f"devices:\n{devices}isolation: {{operator_addresses: [{lab.network.ip}]}}\n"
        "task: {module: edgefl.federation.tasks.hospitals}\nrun: {rounds: 2, quorum: 0.5}\npreflight: {on_failure: continue}\n"
    )


def records(lab: Lab, out: Path) -> None:
    """Each ward's patients, on the ward's own machine."""
    wards = {name: host for host, name in NAMES.items() if name.startswith("ward")}
    make = [sys.executable, "-m", "edgefl.lab.data", "--task", "hospitals", "--devices", str(len(wards)), "--out", str(out)]
    subprocess.run(make, check=True, capture_output=True)
    for directory, host in zip(sorted(out.iterdir()), wards.values(), strict=True):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(directory, ".")
        unpack = f"mkdir -p {RECORDS} && base64 -d | tar -xz --no-same-owner -C {RECORDS} && chmod 755 {RECORDS}"
        done = lab.execute(host, ["sh", "-c", unpack], base64.b64encode(packed.getvalue()).decode())
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    here = tmp_path_factory.mktemp("static")
    with bare_hosts(here, len(NAMES)) as (directory, lab, hosts):
        for host in NAMES:
            assert lab.execute(host, ["nft", "-f", "-"], OWN_RULES).returncode == 0
        records(lab, here / "records")
        written(directory, lab, hosts)
        yield Clinic(directory, lab, {host: picture(lab, host) for host in NAMES})


@pytest.fixture(scope="module")
def begun(clinic: Clinic) -> tuple[int, dict[str, bytes]]:
    """The first `up`, cut short while it made the authority: its exit code, and what it left of one."""
    code = clinic.cut_short("certificates")
    return code, {path.name: path.read_bytes() for path in (clinic.state / "pki").glob("*") if path.is_file()}


@pytest.fixture(scope="module")
def without_one(clinic: Clinic, begun: object) -> Said:
    """The same command again, while ward-b's network is down."""
    clinic.lab.cut("host-03")
    try:
        said = Said.of(clinic)
    finally:
        clinic.lab.join("host-03")
    return said


@pytest.fixture(scope="module")
def whole(clinic: Clinic, without_one: Said) -> tuple[int, Said]:
    """ward-b is back: an `up` that was cut short while it proved the isolation, then the same command to its end."""
    return clinic.cut_short("proof"), Said.of(clinic)


@pytest.fixture(scope="module")
def left(clinic: Clinic, whole: object) -> dict[str, str]:
    """Everything taken down without the bundle, and what lay in the devices' ledgers before."""
    look = f"sha256sum {layout.LEDGER}"
    ledgers = {host: clinic.on(host, look) for host in ("host-02", "host-03")}
    shutil.rmtree(clinic.state / "bundle")
    down = clinic.edgefl("down", "--yes")
    assert down.returncode == 0, down.stdout[-3000:] + down.stderr
    return ledgers


def test_ctrl_c_while_certificates_are_made_leaves_an_authority_that_goes_on(
    clinic: Clinic, begun: tuple[int, dict[str, bytes]], without_one: Said
) -> None:
    code, authority = begun
    assert code == 130
    now = {name: (clinic.state / "pki" / name).read_bytes() for name in authority}
    kept = ("root.crt", "root.key", "issuing.crt", "issuing.key")
    assert {name: now[name] for name in kept if name in now} == {name: authority[name] for name in kept if name in authority}


def test_up_goes_on_without_the_device_that_does_not_answer(without_one: Said) -> None:
    said = [json.loads(line) for line in without_one.up.stdout.splitlines()]
    assert [line["subject"] for line in said if line.get("type") == "failed"] == ["ward-b"]


def test_the_quorum_trains_meanwhile(without_one: Said) -> None:
    assert without_one.run.returncode == 0, without_one.run.stdout[-3000:]
    rounds = [
        line["detail"]
        for line in map(json.loads, without_one.run.stdout.splitlines())
        if "participants" in line.get("detail", {})
    ]
    assert [row["participants"] for row in rounds] == [["ward-a"]] * 2


def test_status_and_devices_say_who_is_missing_and_why(without_one: Said) -> None:
    assert without_one.status.returncode == 70
    missing = [concern for concern in last_object(without_one.status)["attention"] if concern["subject"] == "ward-b"]
    assert any(
        "left out of the last up" in concern["what"] and "does not answer on SSH" in concern["what"] for concern in missing
    )
    assert "does not answer" in without_one.devices["ward-b"]["unfit"]
    assert without_one.devices["ward-b"]["state"] == "enrolled"
    assert without_one.devices["ward-a"]["unfit"] == ""


def test_ctrl_c_while_the_isolation_is_proven_leaves_a_site_from_which_up_goes_on(
    clinic: Clinic, whole: tuple[int, Said]
) -> None:
    code, said = whole
    assert code == 130
    stages = last_object(said.up)["stages"]
    assert "proof" in [stage["name"] for stage in stages]


def test_a_later_up_takes_the_device_in(whole: tuple[int, Said]) -> None:
    _, said = whole
    assert said.run.returncode == 0, said.run.stdout[-3000:]
    assert said.status.returncode == 0, said.status.stdout[-3000:]
    for ward in ("ward-a", "ward-b"):
        row = said.devices[ward]
        assert (row["state"], row["unfit"], row["rejected"]) == ("online", "", 0)
        assert row["isolation"]["open_forbidden"] == row["isolation"]["closed_required"] == []
        assert 0 < row["epsilon"]["spent"] <= 8
    assert said.devices["ward-a"]["updates"] == 4
    assert said.devices["ward-b"]["updates"] == 2


def test_a_host_that_was_left_is_as_it_was(clinic: Clinic, left: object) -> None:
    for host in NAMES:
        assert picture(clinic.lab, host) == clinic.before[host]
        assert clinic.on(host, f"ls -d {FILES} 2>/dev/null || true") == ""


def test_what_a_device_has_spent_and_its_records_stay(clinic: Clinic, left: dict[str, str]) -> None:
    for host, ledger in left.items():
        assert clinic.on(host, f"sha256sum {layout.LEDGER}") == ledger
        assert clinic.on(host, f"ls {RECORDS}").split() == ["test.csv", "train.csv"]


def test_the_journal_stays_on_the_coordinator(clinic: Clinic, left: object) -> None:
    assert clinic.on("host-01", f"test -s {layout.JOURNAL} && echo kept") == "kept\n"
