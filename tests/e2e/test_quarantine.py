"""A device is put in quarantine in the middle of a run, and taken back in the same one."""

from __future__ import annotations

import pytest

from .conftest import Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

DEVICE = "edge-03"
REFUSED = ("SSLV3_ALERT_CERTIFICATE_REVOKED", "503")
"""By the operator's list in the handshake; what the coordinator's own authority certified, by its serial in every request. For
whoever is let in, what is asked for here is not there: 404.
"""
CALL = """\
import http.client, ssl, sys
context = ssl.create_default_context(cafile="/etc/edgefl/identity/ca.crt")
context.check_hostname = False
context.load_cert_chain("/tmp/called/device.crt", "/tmp/called/device.key")
connection = http.client.HTTPSConnection(sys.argv[1], 7443, context=context, timeout=5)
try:
    connection.request("GET", "/")
    print(connection.getresponse().status)
except (OSError, ssl.SSLError) as error:
    print(getattr(error, "reason", None) or type(error).__name__)
"""


def called(fleet: Fleet, *, with_the_identity_of: str) -> str:
    """What the gate answers, from a device whose firewall lets it through, to the identity that a thief took off a device."""
    thief, there = "edge-01", "/tmp/called"
    for file in ("device.crt", "device.key"):
        content = fleet.on(with_the_identity_of, "cat", f"/etc/edgefl/identity/{file}").stdout
        fleet.on(thief, "mkdir", "-p", there)
        done = fleet.lab.execute(thief, ["sh", "-c", f"cat > {there}/{file} && chmod -R a+rX {there}"], content)
        assert done.returncode == 0, done.stderr
    address = fleet.lab.read("coordinator").spec.address  # type: ignore[union-attr]
    as_node = ("setpriv", "--reuid", "edgefl-node", "--regid", "edgefl-node", "--clear-groups")
    done = fleet.on(thief, *as_node, "python3", "-c", CALL, str(address))
    fleet.on(thief, "rm", "-r", there)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_device_is_cut_off_in_the_middle_of_a_run_and_comes_back_in_it(fleet: Fleet) -> None:
    before, ledger = fleet.device(DEVICE)["certificate"]["serial"], "/var/lib/edgefl/ledger/ledger.db"
    deeds = len(fleet.deeds(DEVICE))
    with fleet.training():
        assert called(fleet, with_the_identity_of=DEVICE) == "404", "the thief is let in before"
        spent = fleet.device(DEVICE)["epsilon"]["spent"]
        assert spent > 0
        cut = fleet.edgefl("quarantine", DEVICE, "--why", "sends copies", "--yes", "--json")
        assert cut.returncode == 0, cut.stdout + cut.stderr

        assert fleet.device(DEVICE)["state"] == "quarantined"
        assert "policy drop" in fleet.on(DEVICE, "nft", "list", "table", "inet", "edgefl").stdout
        assert "7443" not in fleet.on(DEVICE, "nft", "list", "table", "inet", "edgefl").stdout
        dial = "import socket; socket.create_connection(('10.77.0.10', 7443), 3)"
        assert fleet.on(DEVICE, "python3", "-c", dial).returncode != 0
        until(
            lambda: (
                fleet.on(DEVICE, "systemctl", "is-active", "edgefl-supernode", "edgefl-superexec").stdout.split()
                == ["inactive", "inactive"]
            ),
            "the device's services to end",
        )
        assert called(fleet, with_the_identity_of=DEVICE) in REFUSED
        assert fleet.on("coordinator", "systemctl", "restart", "edgefl-gate").returncode == 0
        assert called(fleet, with_the_identity_of=DEVICE) in REFUSED, "a restart forgets nothing"

        at = fleet.round()
        fleet.await_round(at + 2)
        assert fleet.edgefl("up", "--json").returncode == 0, "a device in quarantine is no reason for up to fail"
        assert fleet.device(DEVICE)["state"] == "quarantined"
        assert fleet.on(DEVICE, "test", "-s", ledger).returncode == 0, "what is evidence stays"

        back = fleet.edgefl("release", DEVICE, "--why", "its records were checked", "--json")
        assert back.returncode == 0, back.stdout[-3000:] + back.stderr
        assert fleet.device(DEVICE)["certificate"]["serial"] != before
        asked_again = fleet.round() + 2
        fleet.await_round(asked_again)
        assert fleet.device(DEVICE)["epsilon"]["spent"] >= spent, "nothing is won back"

    started = [round_ for round_ in fleet.happened("round_started") if round_["round"] >= at + 1]
    started = [round_ for round_ in started if round_["run"] == started[-1]["run"]]
    assert DEVICE not in started[0]["devices"], "the run goes on without it"
    assert DEVICE in started[-1]["devices"], "and asks it again"
    dropped = [drop for drop in fleet.happened("device_dropped") if drop["run"] == started[-1]["run"]]
    waited = [drop for drop in dropped if drop["device"] == DEVICE and drop["round"] > at]
    assert waited == [], "no round waits for who is in quarantine"
    assert fleet.deeds(DEVICE)[deeds:] == ["quarantine", "release"]
