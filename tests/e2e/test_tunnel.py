"""Devices reach the coordinator through a tunnel alone: trained through it, proven, one device cut off, then without it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefl.fleet import evidence
from edgefl.site import load
from edgefl.site.addresses import tunnelled

from .conftest import Fleet, edgefl, last_object, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

SITE = """\
name: ward
infrastructure: {module: lab, network: 10.79.0.1/24}
isolation: {tunnel: wireguard}
devices:
  - {name: edge-01, data: data/edge-01}
  - {name: edge-02, data: data/edge-02}
task: {module: edgefl.federation.tasks.images}
run: {rounds: 2, quorum: 1.0, deadline_s: 60}
privacy: {epsilon_limit: 50.0, epsilon_per_run: 4.0, delta: 0.00001}
"""
DEVICES = ("edge-01", "edge-02")
LEFT = "ip link show edgefl0; pgrep wireguard; find /etc/edgefl /etc/systemd/system -name '*tunnel*'; ss -lun | grep 51820; true"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory: Path = tmp_path_factory.mktemp("tunnel") / "site"
    make = [sys.executable, "-m", "edgefl.lab.data", "--task", "images", "--devices", "2", "--records", "600"]
    subprocess.run([*make, "--out", str(directory / "data")], check=True, capture_output=True)
    (directory / "site.yaml").write_text(SITE)
    try:
        up(directory)
        yield Fleet(directory)
    finally:
        gone = edgefl("down", "--site", str(directory), "--yes", "--json")
    assert gone.returncode == 0, gone.stdout[-3000:] + gone.stderr


def up(directory: Path) -> dict[str, object]:
    done = edgefl("up", "--site", str(directory), "--json", timeout_s=1200)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return last_object(done)


def carried(fleet: Fleet) -> dict[str, tuple[int, int]]:
    """Bytes that the coordinator's end received from each device and sent to it."""
    keys = {peer["public_key"]: name for name, peer in known(fleet).items()}
    lines = fleet.on("coordinator", "wg", "show", "edgefl0", "transfer").stdout.splitlines()
    return {keys.get(key, key): (int(came), int(went)) for key, came, went in (line.split() for line in lines)}


def known(fleet: Fleet) -> dict[str, dict[str, str]]:
    """The ends that the coordinator has been told of."""
    return dict(json.loads(fleet.on("coordinator", "cat", "/etc/edgefl/tunnel.json").stdout)["peers"])


def test_a_run_trains_through_the_tunnel(ward: Fleet) -> None:
    before = carried(ward)
    run = ward.edgefl("run", "--json")
    assert run.returncode == 0, run.stdout[-3000:]
    rounds = [row for line in map(json.loads, run.stdout.splitlines()) if "participants" in (row := line.get("detail", {}))]
    assert [sorted(row["participants"]) for row in rounds] == [sorted(DEVICES)] * 2
    after = carried(ward)
    model = int(ward.on("coordinator", "sh", "-c", "stat -c %s /var/lib/edgefl/models/*/2.safetensors").stdout)
    for name in DEVICES:
        came, went = (after[name][way] - before[name][way] for way in (0, 1))
        assert went > 2 * model, f"two rounds' models ({model} bytes each) went to {name} through the tunnel"
        assert came > 50_000, f"two rounds' updates came from {name} through the tunnel"


def test_the_proof_is_of_the_new_way_and_of_no_other(ward: Fleet) -> None:
    verified = ward.edgefl("verify", "--json")
    assert verified.returncode == 0, verified.stdout[-3000:]
    site = load(ward.directory)
    proof = evidence.latest(site.state)
    assert proof is not None
    assert proof.breaches == ()
    inside = {name: str(address) for name, address in tunnelled(site).items()}
    seen = {(r.probe.host, r.probe.user, r.probe.protocol, r.probe.address, r.probe.port): r.observed for r in proof.results}
    outside = str(ward.lab.read("coordinator").spec.address)  # type: ignore[union-attr]
    for name, other in (DEVICES, reversed(DEVICES)):
        assert seen[name, "edgefl-node", "tcp", inside["coordinator"], 7443] == "open"
        assert seen[name, "edgefl-node", "tcp", outside, 7443] == "closed"
        assert seen[name, "edgefl-app", "tcp", inside["coordinator"], 7443] == "closed"
        assert seen[name, "edgefl-node", "udp", outside, 51820] == "closed", "the tunnel's own packets alone"
        assert seen[name, "root", "tcp", inside[other], 22] == "closed"
    assert seen["coordinator", "root", "tcp", inside["edge-01"], 22] == "closed"


def test_keys_stay_where_they_are_made_and_whoever_holds_one_holds_nothing_else(ward: Fleet) -> None:
    for name in ("coordinator", *DEVICES):
        key = ward.on(name, "cat", "/etc/edgefl/identity/tunnel.key").stdout.strip()
        assert len(key) == 44
        state = ward.directory / ".edgefl"
        assert not [
            path for path in state.rglob("*") if path.is_file() and "lab" not in path.parts and key.encode() in path.read_bytes()
        ]
        assert ward.on(name, "stat", "-c", "%U %a", "/etc/edgefl/identity/tunnel.key").stdout == "edgefl-tunnel 600\n"
        status = "grep -h '^CapEff\\|^Uid' /proc/$(systemctl show -P MainPID tunnel-edgefl)/status"
        uid, capabilities = (line.split()[1] for line in ward.on(name, "sh", "-c", status).stdout.splitlines())
        assert int(uid) > 0
        assert int(capabilities, 16) == 1 << 12, "CAP_NET_ADMIN"
        assert ward.on(name, "cat", "/run/tunnel-edgefl/by").stdout in ("kernel\n", "userspace\n")


def test_a_second_up_changes_nothing(ward: Fleet) -> None:
    assert up(ward.directory)["changed"] is False


def test_a_device_in_quarantine_is_no_end_of_the_tunnel_and_comes_back_with_another_key(ward: Fleet) -> None:
    before = known(ward)
    cut = ward.edgefl("quarantine", "edge-02", "--why", "sends copies", "--yes", "--json")
    assert cut.returncode == 0, cut.stdout + cut.stderr
    assert set(known(ward)) == {"edge-01"}
    until(lambda: set(carried(ward)) == {"edge-01"}, "the coordinator's end to forget the device", deadline_s=10)
    until(
        lambda: ward.on("edge-02", "systemctl", "is-active", "tunnel-edgefl").stdout == "inactive\n",
        "the device's end to be gone",
    )
    back = ward.edgefl("release", "edge-02", "--why", "its records were checked", "--json")
    assert back.returncode == 0, back.stdout[-3000:]
    after = known(ward)
    assert after["edge-01"] == before["edge-01"]
    assert after["edge-02"]["address"] == before["edge-02"]["address"]
    assert after["edge-02"]["public_key"] != before["edge-02"]["public_key"]


def test_a_site_that_wants_it_no_more_has_nothing_left_of_it(ward: Fleet) -> None:
    (ward.directory / "site.yaml").write_text(SITE.replace("isolation: {tunnel: wireguard}\n", ""))
    assert up(ward.directory)["changed"] is True
    for name in ("coordinator", *DEVICES):
        assert ward.on(name, "sh", "-c", LEFT).stdout == ""
        assert not any(word in ward.on(name, "nft", "list", "ruleset").stdout for word in ("edgefl0", "51820"))
    assert up(ward.directory)["changed"] is False
