"""Walls that somebody changes heal by themselves, and everybody hears of it until they are proven again."""

from __future__ import annotations

import re

import pytest

from edgefl.site import load

from .conftest import Fleet, edgefl, last_object, life, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

LOOSE = "/run/systemd/system/edgefl-supernode.service.d"


def concerned(fleet: Fleet) -> dict[str, str]:
    """What `status` says of walls, by host; where it says anything, it must end as degraded."""
    status = fleet.edgefl("status", "--json")
    found = {concern["subject"]: concern["what"] for concern in last_object(status)["attention"] if "healed" in concern["what"]}
    assert status.returncode == 70 or not found
    return found


def test_changed_walls_heal_within_a_minute_and_are_flagged_until_they_are_proven_again(fleet: Fleet) -> None:
    took = {host: life.drift_heal_seconds(fleet.lab, host) for host in ("edge-02", "coordinator")}
    assert max(took.values()) <= 60, took

    loose = f"mkdir -p {LOOSE} && printf '[Service]\\nIPAddressAllow=any\\n' >{LOOSE}/loose.conf && systemctl daemon-reload"
    fleet.on("edge-03", "sh", "-c", loose)
    opened = ["systemctl", "show", "--property=IPAddressAllow", "--value", "edgefl-supernode"]
    until(lambda: "::/0" not in fleet.on("edge-03", *opened).stdout, "the unit's walls to be whole again", 60)
    until(lambda: set(concerned(fleet)) >= {"edge-02", "edge-03", "coordinator"}, "every host's own report", 60)
    said = concerned(fleet)
    assert "the firewall's rules were gone" in said["edge-02"]
    assert "a drop-in of edgefl-supernode.service set IPAddressAllow" in said["edge-03"]
    logged = last_object(edgefl("audit", "log", "--site", str(fleet.directory), "--json"))["events"]
    drifts = {e["body"]["device"]: e["body"] for e in logged if e["body"]["type"] == "isolation_drift"}
    assert set(drifts) >= set(said)
    assert all(drift["healed"] and drift["seconds"] < 60 for drift in drifts.values())

    proven = fleet.edgefl("verify", "--json")
    assert proven.returncode == 0, proven.stdout[-2000:]
    assert concerned(fleet) == {}
    probed, opened_paths = life.paths(load(fleet.directory))
    assert probed > 200
    assert opened_paths == 0


def test_a_watcher_that_is_stopped_is_missed_and_another_tables_hook_is_told(fleet: Fleet) -> None:
    strange = "add table inet open; add chain inet open out { type filter hook output priority -400 ; policy accept ; }"
    fleet.on("edge-02", "systemctl", "stop", "walls-edgefl")
    try:
        fleet.on("edge-03", "nft", strange)
        until(lambda: set(concerned(fleet)) >= {"edge-02", "edge-03"}, "the silence of one and the report of the other", 300)
        said = concerned(fleet)
        assert "the watcher of its walls is silent" in said["edge-02"]
        assert "the table inet open got hooks of its own: out (filter, output -400)" in said["edge-03"]
    finally:
        fleet.on("edge-03", "nft", "delete", "table", "inet", "open")
    up = fleet.edgefl("up", "--json")
    assert up.returncode == 0, up.stdout[-2000:]
    assert fleet.on("edge-02", "systemctl", "is-active", "walls-edgefl").stdout.strip() == "active"
    assert concerned(fleet) == {}


@pytest.mark.parametrize("host", ["coordinator", "edge-01"])
def test_the_watcher_is_hardened_and_has_one_capability(fleet: Fleet, host: str) -> None:
    shown = fleet.on(host, "systemd-analyze", "security", "--no-pager", "walls-edgefl.service").stdout
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", shown)
    assert exposure, shown[-500:]
    assert float(exposure[1]) <= 3.0
    pid = fleet.on(host, "systemctl", "show", "--property=MainPID", "--value", "walls-edgefl").stdout.strip()
    held = fleet.on(host, "grep", "-E", "^Cap(Eff|Bnd)", f"/proc/{pid}/status").stdout.split()
    assert [int(value, 16) for value in held[1::2]] == [1 << 12, 1 << 12], "CAP_NET_ADMIN"
