"""One device owned as root: what it reaches, whom it can pass for, what it can take back, and whom it can stop."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from edgefl import layout
from edgefl.site import load

from .conftest import Fleet, edgefl, last_object, life, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

OWNED = "edge-04"
CLIENT = """\
import http.client, json, socket, ssl, sys
address, port, method, path, body, headers = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile="/etc/edgefl/identity/ca.crt")
context.load_cert_chain("/etc/edgefl/identity/device.crt", "/etc/edgefl/identity/device.key")
try:
    connection = http.client.HTTPSConnection(address, port, context=context, timeout=4)
    connection.request(method, path, body, headers)
    print(connection.getresponse().status)
except OSError as error:
    print(f"0 {error}")
"""
REACH = """\
import concurrent.futures, json, socket, sys
def reached(place):
    try:
        socket.create_connection(place, 3).close()
        return True
    except OSError:
        return False
places = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    print(json.dumps([place for place, open in zip(places, pool.map(reached, places)) if open]))
"""
FLOOD = """\
import socket, sys, time
held, turned = [], 0
print("floods", flush=True)
while True:
    try:
        one = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
        one.settimeout(0.05)
        try:
            turned += one.recv(1) == b""
        except TimeoutError:
            held.append(one)
    except OSError:
        turned += 1
    held = held[-4000:]
    time.sleep(0.01)  # what the attacker's own processor bears
"""
LEDGER = "/var/lib/edgefl/ledger"


@pytest.fixture
def owned(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet with one device whose root tore down its own walls, and whoever would put them back."""
    fleet.on(OWNED, "sh", "-c", "systemctl stop walls-edgefl; nft flush ruleset")
    try:
        yield fleet
    finally:
        healed = fleet.edgefl("up", "--json")
        assert healed.returncode == 0, healed.stdout[-2000:]


def address(fleet: Fleet, host: str) -> str:
    state = fleet.lab.read(host)
    assert state
    return state.spec.address


def ask(fleet: Fleet, port: int, method: str, path: str, body: object = None, **headers: str) -> str:
    """What the coordinator answers the owned device's own certificate: a status, or 0 and why there is none."""
    text = None if body is None else json.dumps(body)
    told = json.dumps([address(fleet, "coordinator"), port, method, path, text, headers])
    done = fleet.on(OWNED, "python3", "-c", CLIENT, told)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_owned_device_reaches_nobody_and_passes_for_nobody(owned: Fleet) -> None:
    others = [host.name for host in load(owned.directory).hosts if host.name != OWNED]
    ports = (22, layout.API_PORT, layout.SUPERLINK_PORT, layout.SUPERNODE_PORT, 47443)
    forbidden = [(address(owned, host), port) for host in others for port in ports] + [
        ("192.0.2.1", 443),
        ("169.254.169.254", 80),
    ]
    gate = (address(owned, "coordinator"), layout.FLEET_PORT)
    reached = owned.on(OWNED, "python3", "-c", REACH, json.dumps([*forbidden, gate]), timeout_s=180)
    assert json.loads(reached.stdout) == [list(gate)], "its own walls are gone; the others' stand"

    assert ask(owned, layout.API_PORT, "GET", "/v1/status").startswith("0 "), "the monitor is not even there for it"
    for path in ("/v1/status", "/v1/actions", "/v1/runs", "/metrics", "/v1/fleet/../runs", "/v1/drift/../status"):
        assert ask(owned, layout.FLEET_PORT, "GET", path, **{"X-Edgefl-Role": "operator"}) in {"403", "404"}, path
    report = {"found": ["a lie"], "healed": True, "at": "2026-01-01T00:00:00Z", "device": "edge-01", "role": "coordinator"}
    claims = {"X-Edgefl-Name": "edge-01", "X-Edgefl-Role": "operator", "Content-Type": "application/json"}
    assert ask(owned, layout.FLEET_PORT, "POST", "/v1/drift", report, **claims) == "201"
    logged = last_object(edgefl("audit", "log", "--site", str(owned.directory), "--json"))["events"]
    (lie,) = [event["body"] for event in logged if event["body"].get("found") == ["a lie"]]
    assert (lie["device"], lie["role"]) == (OWNED, "device"), "whatever it says, it says in its own name"


def test_one_that_floods_the_gate_stops_nobody_and_one_that_takes_its_budget_back_is_seen(fleet: Fleet) -> None:
    honest = {device.name for device in load(fleet.directory).devices} - {OWNED}
    flood = ["setpriv", "--reuid", layout.USER_NODE, "--clear-groups", "python3", "-c", FLOOD]
    unit = [
        "systemd-run",
        "--quiet",
        "--unit=flood",
        "--property=LimitNOFILE=8192",
        *flood,
        address(fleet, "coordinator"),
        "7443",
    ]
    assert fleet.on(OWNED, *unit).returncode == 0
    held = "ss --tcp --no-header state established '( sport = :7443 )' dst " + address(fleet, OWNED) + " | wc -l"
    until(lambda: int(fleet.on("coordinator", "sh", "-c", held).stdout) >= 14, "the flood to be at its height", 60)
    try:
        trained = fleet.edgefl("run", "--rounds", "1", "--json")
        assert int(fleet.on("coordinator", "sh", "-c", held).stdout) <= 20, "the gate takes no more of one device"
    finally:
        fleet.on(OWNED, "systemctl", "stop", "flood")
    assert trained.returncode == 0, trained.stdout[-3000:]
    rounds = [line["detail"] for line in map(json.loads, trained.stdout.splitlines()) if line.get("subject") == "round 1"]
    assert honest <= set(rounds[-1]["participants"])

    fleet.on(OWNED, "sh", "-c", f"cp -a {LEDGER} {LEDGER}.kept && find {LEDGER} -type f -delete")
    try:
        trained = fleet.edgefl("run", "--rounds", "1", "--json")
        flagged = [line for line in map(json.loads, trained.stdout.splitlines()) if "rolled back or replaced" in str(line)]
        assert {line["subject"] for line in flagged} == {OWNED}, (
            "what it spent anew is as much as before, and is seen all the same"
        )
    finally:
        # Its files, not the directory: the service's own view of the disk holds that one.
        fleet.on(OWNED, "sh", "-c", f"find {LEDGER} -type f -delete && cp -a {LEDGER}.kept/. {LEDGER}/ && rm -r {LEDGER}.kept")
        forgiven = fleet.edgefl("run", "--rounds", "1", "--pardon", OWNED, "--json")
    assert forgiven.returncode == 0, forgiven.stdout[-2000:]
    last = [line["detail"] for line in map(json.loads, forgiven.stdout.splitlines()) if line.get("subject") == "round 1"]
    assert OWNED in last[-1]["participants"], "it is as it was before"


def test_a_stolen_coordinator_holds_nobody_elses_keys_and_no_secret_lies_about(fleet: Fleet) -> None:
    site = load(fleet.directory)
    assert life.foreign_keys(site, fleet.lab, "coordinator") == []
    assert life.secrets_found(site, fleet.lab) == []
    fleet.on("edge-01", "sh", "-c", "cat /etc/edgefl/signing/signer.key >/tmp/left && cp /tmp/left /var/tmp/left")
    key = fleet.on("edge-01", "cat", "/tmp/left").stdout
    try:
        fleet.lab.execute("coordinator", ["sh", "-c", "cat >/var/lib/edgefl/journal/left"], key)
        assert life.foreign_keys(site, fleet.lab, "coordinator") == [
            "edge-01:/etc/edgefl/signing/signer.key in /var/lib/edgefl/journal/left"
        ]
        assert life.secrets_found(site, fleet.lab) == ["edge-01:/etc/edgefl/signing/signer.key in edge-01: temporary files"], (
            "the search finds"
        )
    finally:
        fleet.on("coordinator", "rm", "/var/lib/edgefl/journal/left")
        fleet.on("edge-01", "rm", "/tmp/left", "/var/tmp/left")
