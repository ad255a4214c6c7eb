"""What goes wrong in the field, done on purpose: each is named, nothing is lost, and the same command goes on."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import Self

import pytest

from edgefl.errors import ExitCode
from edgefl.site import load

from .conftest import Fleet, edgefl, in_background, interrupted, last_object, until

pytestmark = pytest.mark.e2e

LASTING_S = 15.0
"""How long a service that came back must have run to count: one that starts, fails and starts anew is active now and then."""
WATCHDOG_S = 20
"""What a service's watchdog allows in the test, so that nobody waits for minutes."""


@dataclass(frozen=True)
class Unit:
    """A service of a host, as systemd sees it. since_s: on the machine's monotonic clock, which its lab hosts share."""

    state: str
    pid: str
    restarts: int
    since_s: float

    @classmethod
    def of(cls, fleet: Fleet, host: str, name: str) -> Self:
        asked = "ActiveState,MainPID,NRestarts,ActiveEnterTimestampMonotonic"
        said = dict(line.split("=", 1) for line in fleet.on(host, "systemctl", "show", "-p", asked, name).stdout.splitlines())
        since_s = int(said["ActiveEnterTimestampMonotonic"]) / 1e6
        return cls(said["ActiveState"], said["MainPID"], int(said["NRestarts"]), since_s)


def came_back(fleet: Fleet, host: str, name: str, before: Unit) -> bool:
    """Whether systemd started a service anew, and it lasts."""
    now = Unit.of(fleet, host, name)
    is_another = now.pid not in ("0", before.pid) and now.restarts > before.restarts
    return now.state == "active" and is_another and time.monotonic() - now.since_s > LASTING_S


def online(fleet: Fleet) -> list[str]:
    """The devices that the coordinator counts as there; none while it does not answer."""
    listed = fleet.edgefl("devices", "--json")
    rows = last_object(listed).get("devices", []) if listed.stdout else []
    return [row["name"] for row in rows if row["state"] != "offline"]


def test_a_second_up_at_the_same_time_is_refused_by_name(fleet: Fleet) -> None:
    with in_background("up", "--site", str(fleet.directory), "--json") as first:
        assert first.stdout
        first.stdout.readline()
        second = fleet.edgefl("up", "--json")
        assert second.returncode == 12
        assert "edgefl up" in last_object(second)["what"]
        first.communicate(timeout=900)
        assert first.returncode == 0


def test_an_unreachable_device_is_named_before_anything_is_changed(fleet: Fleet) -> None:
    fleet.lab.cut("edge-03")
    try:
        failed = fleet.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "edge-03" in last_object(failed)["what"]
        assert "doctor" in last_object(failed)["next"]
    finally:
        fleet.lab.join("edge-03")


def test_a_full_disk_is_named(fleet: Fleet) -> None:
    fleet.on("edge-03", "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", "/tmp")
    try:
        failed = fleet.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "edge-03" in last_object(failed)["what"]
        assert "/tmp" in last_object(failed)["what"]
    finally:
        fleet.on("edge-03", "umount", "/tmp")


def test_a_device_without_python_is_named(fleet: Fleet) -> None:
    fleet.on("edge-03", "mv", "/usr/bin/python3", "/usr/bin/python3.away")
    try:
        failed = fleet.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "edge-03" in last_object(failed)["what"]
        assert "ython" in last_object(failed)["what"]
    finally:
        fleet.on("edge-03", "mv", "/usr/bin/python3.away", "/usr/bin/python3")


def test_a_wrong_clock_is_named(fleet: Fleet) -> None:
    """A lab host shares the machine's clock, so its Python is made to see another one, as every program on a wrong host would."""
    plant = "import time; time.time = lambda true=time.time: true() - 90\n"
    place = "/usr/lib/python3/dist-packages/clock.pth"
    fleet.lab.execute("edge-03", ["sh", "-c", f"cat > {place}"], plant)
    try:
        failed = fleet.edgefl("up", "--json")
        assert failed.returncode == 30
        assert "clock" in last_object(failed)["what"]
        assert "edge-03" in last_object(failed)["what"]
    finally:
        fleet.on("edge-03", "rm", "-f", place)


def test_too_few_devices_are_said_before_a_run_begins(fleet: Fleet) -> None:
    away = ["edge-01", "edge-02"]
    for device in away:
        fleet.lab.cut(device)
    try:

        def offline() -> bool:
            listed = fleet.edgefl("devices", "--json")
            rows = last_object(listed).get("devices", []) if listed.stdout else []
            return sum(row["state"] == "offline" for row in rows) >= len(away)

        until(offline, "both devices to be seen offline", 300)
        refused = fleet.edgefl("run", "--json")
        assert refused.returncode == 50
        assert all(device in last_object(refused)["what"] for device in away)
    finally:
        for device in away:
            fleet.lab.join(device)
    until(lambda: len(online(fleet)) == len(load(fleet.directory).devices), "the devices to come back", 300)


def test_a_coordinator_that_dies_in_the_middle_of_up_is_named_and_the_next_up_goes_on(fleet: Fleet) -> None:
    fleet.on("coordinator", "systemctl", "stop", "edgefl-monitor")  # so that there is something to do when it dies
    with in_background("up", "--site", str(fleet.directory), "--json") as going:
        assert going.stdout
        for line in going.stdout:
            event = json.loads(line)
            if event.get("stage") == "configuration" and event.get("changed"):
                break
        fleet.lab.kill("coordinator")
        last = json.loads(going.stdout.read().splitlines()[-1])
        assert going.wait(timeout=300) == last["exit_code"]
    assert last["exit_code"] not in (ExitCode.OK, ExitCode.FAILED), last
    assert "coordinator" in last["what"], last
    healed = fleet.edgefl("up", "--json")
    assert healed.returncode == 0, healed.stdout[-3000:]


def test_ctrl_c_leaves_a_site_from_which_up_goes_on(fleet: Fleet) -> None:
    fleet.on("edge-03", "systemctl", "stop", "edgefl-supernode")
    with in_background("up", "--site", str(fleet.directory), "--json") as going:
        assert interrupted(going, "configuration") == 130
    again = fleet.edgefl("up", "--json")
    assert again.returncode == 0, again.stdout[-3000:]
    assert fleet.on("edge-03", "systemctl", "is-active", "edgefl-supernode").stdout.strip() == "active"


def test_a_device_refuses_the_round_that_its_own_budget_does_not_cover(fleet: Fleet) -> None:
    """What edge-01 has spent so far is nearly all that it may spend from now on; the others go on."""
    site = fleet.directory / "site.yaml"
    before = site.read_text()
    assert fleet.edgefl("run", "--json").returncode == 0  # a limit below what one run may cost is refused
    limit = round(epsilons(fleet)["edge-01"] + 0.1, 2)
    site.write_text(before.replace("{name: edge-01, ", f"{{name: edge-01, epsilon_limit: {limit}, "))
    try:
        assert fleet.edgefl("up", "--json").returncode == 0
        trained = fleet.edgefl("run", "--rounds", "1", "--json")
        assert trained.returncode == 0, trained.stdout[-2000:]
        refused = [line for line in map(json.loads, trained.stdout.splitlines()) if "its own budget" in line.get("what", "")]
        assert {line["subject"] for line in refused} == {"edge-01"}
        spent = epsilons(fleet)
        assert spent["edge-01"] <= limit < spent["edge-02"]
    finally:
        site.write_text(before)
        assert fleet.edgefl("up", "--json").returncode == 0


def epsilons(fleet: Fleet) -> dict[str, float]:
    """What each device has spent, by its own ledger."""
    return {row["name"]: row["epsilon"]["spent"] for row in last_object(fleet.edgefl("devices", "--json"))["devices"]}


def test_services_that_are_killed_or_hang_come_back_by_themselves_and_the_next_run_completes(fleet: Fleet) -> None:
    killed = [("coordinator", f"edgefl-{name}") for name in ("superlink", "gate", "superexec", "monitor")]
    killed += [("edge-01", "edgefl-supernode"), ("edge-02", "edgefl-superexec")]
    ended = ("edge-03", "edgefl-supernode")  # in good order and with 0, which is how Flower gives up without a word
    stopped = ("edge-04", "edgefl-superexec")
    devices = len(load(fleet.directory).devices)
    drop_in = "/run/systemd/system/edgefl-superexec.service.d"
    limit = f"[Service]\nWatchdogSec={WATCHDOG_S}\n"
    anew = "systemctl daemon-reload && systemctl restart edgefl-superexec"

    def on_edge_04(command: str, stdin: str | None = None) -> None:
        done = fleet.lab.execute("edge-04", ["sh", "-ec", command], stdin, timeout_s=300)
        assert done.returncode == 0, done.stderr

    on_edge_04(f"mkdir -p {drop_in} && cat > {drop_in}/watchdog.conf && {anew}", limit)
    try:
        before = {place: Unit.of(fleet, *place) for place in (*killed, ended, stopped)}
        assert {unit.state for unit in before.values()} == {"active"}
        for host, name in killed:
            assert fleet.on(host, "systemctl", "kill", "--signal=KILL", name).returncode == 0
        assert fleet.on(ended[0], "kill", "-TERM", before[ended].pid).returncode == 0
        assert fleet.on("edge-04", "kill", "-STOP", before[stopped].pid).returncode == 0
        for (host, name), unit in before.items():
            until(partial(came_back, fleet, host, name, unit), f"{name} of {host} to come back and stay", 300)
    finally:
        on_edge_04(f"rm -rf {drop_in} && {anew}")
    until(lambda: len(online(fleet)) == devices, "every device to be online")
    trained = fleet.edgefl("run", "--rounds", "1", "--json")
    assert trained.returncode == 0, trained.stdout[-3000:]
    finished = [line["detail"] for line in map(json.loads, trained.stdout.splitlines()) if line.get("subject") == "round 1"]
    assert set(finished[-1]["participants"]) == {device.name for device in load(fleet.directory).devices}


def test_a_run_that_is_stopped_ends_for_whoever_follows_it(fleet: Fleet) -> None:
    with in_background("run", "--site", str(fleet.directory), "--json", "--rounds", "9") as going:
        assert going.stdout
        for line in going.stdout:
            if json.loads(line).get("subject") == "round 1":
                break
        stopped = fleet.edgefl("stop", "--why", "wrong data on edge-03", "--json")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        last = json.loads(going.stdout.read().splitlines()[-1])
        assert (going.wait(timeout=120), last.get("status")) == (ExitCode.OK, "stopped"), last
    now = last_object(fleet.edgefl("status", "--json"))
    assert now["run_status"] == "stopped", now
    assert now["round"] < 9
    again = fleet.edgefl("stop", "--json")
    assert (again.returncode, last_object(again)["run"]) == (0, ""), "no run is going"


def test_ctrl_c_stops_following_a_run_and_not_the_run(fleet: Fleet) -> None:
    follow = ("run", "--site", str(fleet.directory), "--json")
    with in_background(*follow, "--rounds", "6") as going:
        assert interrupted(going, "run", lambda event: event["subject"] == "round 1") == 130
    left = last_object(fleet.edgefl("status", "--json"))
    assert left["run_status"] == "running", "the journal has no end of it"
    again = edgefl(*follow)
    assert again.returncode == 0, again.stdout[-3000:]
    first, *_, last = map(json.loads, again.stdout.splitlines())
    assert first["what"] == f"run {left['run']} is going; following it"
    assert (last["run"], last["status"]) == (left["run"], "completed")
    after = last_object(fleet.edgefl("status", "--json"))
    assert (after["run"], after["run_status"], after["round"]) == (left["run"], "completed", 6)


def test_ctrl_c_anywhere_changes_nothing_of_a_site_that_stands(fleet: Fleet) -> None:
    """Each stage that the other tests do not cut short, and the commands that go through them."""
    site = ("--site", str(fleet.directory), "--json")
    assert fleet.edgefl("up").returncode == 0  # what other tests left in site.yaml's favour is on the hosts
    for command, stage in (
        (("up", *site), "bundle"),
        (("up", *site), "infrastructure"),
        (("up", *site), "certificates"),
        (("up", *site), "preflight"),
        (("plan", *site), "configuration"),
    ):
        with in_background(*command) as going:
            assert interrupted(going, stage) == 130, (command, stage)
    again = fleet.edgefl("up", "--json")
    assert again.returncode == 0, again.stdout[-3000:]
    assert last_object(again)["changed"] is False


def test_help_without_a_site_says_what_to_do(tmp_path) -> None:
    assert edgefl("status", "--site", str(tmp_path)).returncode == 10
