"""Isolation that does not hold: the command ends with 40, and everybody who asks the monitor sees why until it holds again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from .conftest import Fleet, last_object

pytestmark = pytest.mark.e2e

STRAY = """\
table ip stray {
  chain before {
    type nat hook prerouting priority -100;
    tcp dport 47443 redirect to :22
  }
}
"""
"""A hole that no role owns, beside edgefl's own table: what comes for a closed port is led to an open one."""


def isolation(fleet: Fleet, device: str) -> dict[str, Any]:
    """What the monitor knows of a device's isolation."""
    return dict(last_object(fleet.edgefl("devices", device, "--json"))["isolation"])


def leaks(fleet: Fleet) -> set[str]:
    """The hosts that `status` calls not isolated; where there is one, it must end as degraded."""
    status = fleet.edgefl("status", "--json")
    found = {concern["subject"] for concern in last_object(status)["attention"] if "not isolated" in concern["what"]}
    assert status.returncode == 70 or not found
    return found


@contextmanager
def hole(fleet: Fleet, *hosts: str) -> Iterator[None]:
    """The hosts' walls with a hole in them."""
    try:
        for host in hosts:
            made = fleet.lab.execute(host, ["nft", "-f", "-"], STRAY)
            assert made.returncode == 0, made.stderr
        yield
    finally:
        for host in hosts:
            fleet.on(host, "nft", "delete", "table", "ip", "stray")


def test_flushed_rules_are_known_to_the_monitor_until_up_has_healed_them(fleet: Fleet) -> None:
    fleet.on("edge-04", "systemctl", "stop", "walls-edgefl")  # else the host heals itself (test_drift.py)
    fleet.on("edge-04", "nft", "flush", "ruleset")
    seen = fleet.edgefl("verify", "edge-04", "--json")
    assert seen.returncode == 40, seen.stdout[-2000:]
    assert "edge-04/nobody → tcp coordinator:7443" in isolation(fleet, "edge-04")["open_forbidden"]
    assert leaks(fleet) == {"edge-04"}

    healed = fleet.edgefl("up", "--json")
    assert healed.returncode == 0, healed.stdout[-2000:]
    proven = isolation(fleet, "edge-04")
    assert proven["open_forbidden"] == proven["closed_required"] == []
    assert leaks(fleet) == set()

    assert fleet.edgefl("verify", "edge-04", "--json").returncode == 0
    again = isolation(fleet, "edge-04")
    assert datetime.fromisoformat(again["at"]) > datetime.fromisoformat(proven["at"]), "a good proof refreshes its age"
    assert again["proof_sha256"] != proven["proof_sha256"]


def test_up_ends_with_40_while_a_hole_is_open_that_no_role_owns(fleet: Fleet) -> None:
    with hole(fleet, "edge-04", "coordinator"):
        breached = fleet.edgefl("up", "--json")
        assert breached.returncode == 40, breached.stdout[-2000:]
        for host in ("edge-04", "coordinator"):
            assert f"operator/operator → tcp {host}:47443 is open" in last_object(breached)["what"]
        assert isolation(fleet, "edge-04")["open_forbidden"] == ["operator/operator → tcp edge-04:47443"]
        assert leaks(fleet) == {"edge-04", "coordinator"}
    closed = fleet.edgefl("up", "--json")
    assert closed.returncode == 0, closed.stdout[-2000:]
    assert leaks(fleet) == set()
