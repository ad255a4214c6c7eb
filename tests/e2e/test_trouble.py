"""What goes wrong in the field, done on purpose: each is named, nothing is lost, and the same command goes on."""

from __future__ import annotations

import json

import pytest

from .conftest import Demo, edgefl, in_background, interrupted, last_object, until

pytestmark = pytest.mark.e2e


def test_a_second_up_at_the_same_time_is_refused_by_name(demo: Demo) -> None:
    with in_background("up", "--site", str(demo.directory), "--json") as first:
        assert first.stdout
        first.stdout.readline()
        second = demo.edgefl("up", "--json")
        assert second.returncode == 12
        assert "edgefl up" in last_object(second)["what"]
        assert first.wait(timeout=300) == 0


def test_an_unreachable_device_is_named_before_anything_is_changed(demo: Demo) -> None:
    demo.lab.cut("edge-03")
    try:
        failed = demo.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "edge-03" in last_object(failed)["what"]
        assert "doctor" in last_object(failed)["next"]
    finally:
        demo.lab.join("edge-03")


def test_a_full_disk_is_named(demo: Demo) -> None:
    demo.on("edge-03", "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", "/tmp")
    try:
        failed = demo.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "edge-03" in last_object(failed)["what"]
        assert "/tmp" in last_object(failed)["what"]
    finally:
        demo.on("edge-03", "umount", "/tmp")


def test_a_device_without_python_is_named(demo: Demo) -> None:
    demo.on("edge-03", "mv", "/usr/bin/python3", "/usr/bin/python3.away")
    try:
        failed = demo.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "edge-03" in last_object(failed)["what"]
        assert "ython" in last_object(failed)["what"]
    finally:
        demo.on("edge-03", "mv", "/usr/bin/python3.away", "/usr/bin/python3")


def test_a_wrong_clock_is_named(demo: Demo) -> None:
    """A lab host shares the machine's clock, so its Python is made to see another one, as every program on a wrong host would."""
    plant = "import time; time.time = lambda true=time.time: true() - 90\n"
    place = "/usr/lib/python3/dist-packages/clock.pth"
    demo.lab.execute("edge-03", ["sh", "-c", f"cat > {place}"], plant)
    try:
        failed = demo.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "clock" in last_object(failed)["what"]
        assert "edge-03" in last_object(failed)["what"]
    finally:
        demo.on("edge-03", "rm", "-f", place)


def test_flushed_firewall_rules_are_seen_and_the_next_up_heals_them(demo: Demo) -> None:
    demo.on("edge-04", "nft", "flush", "ruleset")
    seen = demo.edgefl("verify", "--json")
    assert seen.returncode == 40
    assert "edge-04" in last_object(seen)["what"]
    assert demo.edgefl("up", "--json").returncode == 0
    assert demo.edgefl("verify", "--json").returncode == 0


def test_too_few_devices_are_said_before_a_run_begins(demo: Demo) -> None:
    away = ["edge-01", "edge-02", "edge-03"]
    for device in away:
        demo.lab.cut(device)
    try:

        def offline() -> bool:
            listed = demo.edgefl("devices", "--json")
            rows = last_object(listed).get("devices", []) if listed.stdout else []
            return sum(row["state"] == "offline" for row in rows) >= len(away)

        until(offline, "the three devices to be seen offline")
        refused = demo.edgefl("run", "--json")
        assert refused.returncode == 50
        assert all(device in last_object(refused)["what"] for device in away)
    finally:
        for device in away:
            demo.lab.join(device)
    until(
        lambda: all(row["state"] != "offline" for row in last_object(demo.edgefl("devices", "--json"))["devices"]),
        "the devices to come back",
    )


def test_a_coordinator_that_dies_in_the_middle_of_up_is_named_and_the_next_up_goes_on(demo: Demo) -> None:
    with in_background("up", "--site", str(demo.directory), "--json") as going:
        assert going.stdout
        for line in going.stdout:
            if json.loads(line).get("stage") == "configuration":
                break
        demo.lab.kill("coordinator")
        rest = going.stdout.read()
        assert going.wait(timeout=300) not in (0, 1)
        assert "coordinator" in rest
    healed = demo.edgefl("up", "--json")
    assert healed.returncode == 0, healed.stdout[-3000:]


def test_ctrl_c_leaves_a_site_from_which_up_goes_on(demo: Demo) -> None:
    demo.on("edge-05", "systemctl", "stop", "edgefl-supernode")
    with in_background("up", "--site", str(demo.directory), "--json") as going:
        assert interrupted(going, "configuration") == 130
    again = demo.edgefl("up", "--json")
    assert again.returncode == 0, again.stdout[-3000:]
    assert demo.on("edge-05", "systemctl", "is-active", "edgefl-supernode").stdout.strip() == "active"


def test_a_device_refuses_the_round_that_its_own_budget_does_not_cover(demo: Demo) -> None:
    """The demo's run cost each device 4; edge-01 may spend hardly more from now on, the others go on."""
    site = demo.directory / "site.yaml"
    before = site.read_text()
    limit = 4.1
    site.write_text(before.replace("{name: edge-01, ", f"{{name: edge-01, epsilon_limit: {limit}, "))
    try:
        assert demo.edgefl("up", "--json").returncode == 0
        trained = demo.edgefl("run", "--rounds", "2", "--json")
        assert trained.returncode == 0, trained.stdout[-2000:]
        refused = [line for line in map(json.loads, trained.stdout.splitlines()) if "its own budget" in line.get("what", "")]
        assert {line["subject"] for line in refused} == {"edge-01"}
        rows = {row["name"]: row["epsilon"] for row in last_object(demo.edgefl("devices", "--json"))["devices"]}
        assert rows["edge-01"]["spent"] <= limit < rows["edge-02"]["spent"]
    finally:
        site.write_text(before)


def test_help_without_a_site_says_what_to_do(tmp_path) -> None:
    assert edgefl("status", "--site", str(tmp_path)).returncode == 10
