"""Every key of a fleet is replaced while it trains, and no round has a device less."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki import forms
from edgefl.pki.profiles import USAGES

from .conftest import Fleet, in_background, last_object, until

pytestmark = pytest.mark.e2e

DEVICES = [f"edge-0{number}" for number in range(1, 5)]
RENEW_NOW = """\
mkdir -p /run/systemd/system/edgefl-renewal.service.d &&
printf '[Service]\\nEnvironment=EDGEFL_RENEW=now\\n' > /run/systemd/system/edgefl-renewal.service.d/now.conf &&
systemctl daemon-reload && systemctl start edgefl-renewal; code=$?
journalctl --no-pager --output=cat --lines=20 --unit=edgefl-renewal
rm -r /run/systemd/system/edgefl-renewal.service.d && systemctl daemon-reload
exit $code
"""
"""What the timer does by itself once a certificate is due, now."""


def current(fleet: Fleet) -> dict[tuple[str, str], dict[str, Any]]:
    """The certificate of each name and role."""
    done = fleet.edgefl("certs", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {(one["name"], one["role"]): one for one in last_object(done)["certificates"]}


def missed(said: str) -> list[dict[str, Any]]:
    """The rounds that had a device less, or did not count, by what `edgefl run --json` said."""
    events = [json.loads(line) for line in said.splitlines()]
    ended = [event for event in events if event.get("stage") == "run" and event.get("subject", "").startswith("round ")]
    rounds = [event for event in ended if event["type"] in {"finished", "failed"}]
    assert len(rounds) >= 10
    whole = [one for one in rounds if one["type"] == "finished" and sorted(one["detail"]["participants"]) == DEVICES]
    return [one for one in rounds if one not in whole or one["detail"]["dropped"]]


def test_all_keys_are_replaced_in_the_middle_of_a_run_and_no_round_misses_a_device(fleet: Fleet) -> None:
    before = current(fleet)
    hosts = ["coordinator", *DEVICES]
    with in_background("run", "--site", str(fleet.directory), "--rounds", "12", "--json") as going:
        until(lambda: last_object(fleet.edgefl("status", "--json"))["run_status"] == "running", "the run")
        fleet.await_round(2)
        done = fleet.edgefl("certs", "rotate", "--json")
        assert done.returncode == 0, done.stdout[-3000:]
        rotated, at = current(fleet), fleet.round()
        fleet.await_round(at + 2)
        for host in hosts:
            said = fleet.on(host, "sh", "-c", RENEW_NOW, timeout_s=120)
            assert said.returncode == 0, f"{host}: {said.stdout}{said.stderr}"
        renewed, at = current(fleet), fleet.round()
        assert at < 11, "the run was still going when the last one had renewed"
        said, complaints = going.communicate(timeout=400)
        assert going.returncode == 0, said[-3000:] + complaints
    assert missed(said) == []
    own = [(host, role) for host in DEVICES for role in ("device", "signer")] + [
        ("coordinator", "gate"),
        ("coordinator", "superlink"),
    ]
    for key in own:
        assert rotated[key]["serial"] != before[key]["serial"], key
        assert rotated[key]["key_sha256"] != before[key]["key_sha256"], key
        if key[1] != "signer":
            assert (renewed[key]["issuer"], renewed[key]["status"]) == ("renewal", "valid"), key
            assert renewed[key]["key_sha256"] != rotated[key]["key_sha256"], key
    said = fleet.edgefl("up", "--json")
    assert said.returncode == 0, said.stdout[-3000:]
    assert {key: one["serial"] for key, one in current(fleet).items()} == {key: one["serial"] for key, one in renewed.items()}


def test_a_device_that_slept_past_the_end_of_its_certificate_is_told_and_brought_back(fleet: Fleet) -> None:
    fleet.on("edge-04", "sh", "-c", f"cat > /etc/edgefl/identity/device.crt <<'END'\n{ended(fleet, 'edge-04')}END")
    said = fleet.on("edge-04", "sh", "-c", RENEW_NOW, timeout_s=120)
    assert said.returncode != 0
    assert "the operator alone can renew it now" in said.stdout
    assert "edgefl certs rotate edge-04" in said.stdout
    done = fleet.edgefl("certs", "rotate", "edge-04", "--json")
    assert done.returncode == 0, done.stdout[-3000:]
    fleet.on("edge-04", "systemctl", "restart", "edgefl-supernode")

    def online() -> bool:
        return bool(last_object(fleet.edgefl("status", "--json"))["online"] == len(DEVICES))

    until(online, "edge-04 to be online", 120)


def ended(fleet: Fleet, name: str) -> str:
    """The device's own certificate, but for its time, by the site's own authority."""
    directory = fleet.directory / ".edgefl" / "pki"
    held = x509.load_pem_x509_certificate(fleet.on(name, "cat", "/etc/edgefl/identity/device.crt").stdout.encode())
    issuing = x509.load_pem_x509_certificate((directory / "issuing.crt").read_bytes())
    signer = serialization.load_pem_private_key((directory / "issuing.key").read_bytes(), None)
    key = held.public_key()
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    now, names = datetime.now(UTC), forms.alternatives(held)
    begins, ends = now - timedelta(hours=25), now - timedelta(hours=1)
    leaf = forms.leaf(key, held.subject, [USAGES["client_auth"]], names, issuing, begins=begins, ends=ends).sign(
        signer, hashes.SHA384()
    )
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in (leaf, issuing))


def test_another_root_takes_over_in_the_middle_of_a_run_and_no_round_misses_a_device(fleet: Fleet) -> None:
    before = current(fleet)
    with in_background("run", "--site", str(fleet.directory), "--rounds", "10", "--json") as going:
        until(lambda: last_object(fleet.edgefl("status", "--json"))["run_status"] == "running", "the run")
        fleet.await_round(2)
        done = fleet.edgefl("certs", "rotate-ca", "--json")
        assert done.returncode == 0, done.stdout[-3000:]
        assert fleet.round() < 9, "the run was still going when the newer root had taken over"
        assert fleet.edgefl("certs", "rotate-ca", "--finish", "--json").returncode == 12, "not while a run is going"
        said, complaints = going.communicate(timeout=400)
        assert going.returncode == 0, said[-3000:] + complaints
    assert missed(said) == []
    assert current(fleet)["root", "authority"]["serial"] != before["root", "authority"]["serial"]
    done = fleet.edgefl("certs", "rotate-ca", "--finish", "--json")
    assert done.returncode == 0, done.stdout[-3000:]
    trusted = fleet.on("edge-01", "cat", "/etc/edgefl/identity/ca.crt").stdout
    assert trusted.count("BEGIN CERTIFICATE") == 2
    until(lambda: last_object(fleet.edgefl("status", "--json"))["online"] == len(DEVICES), "every device to be online", 120)
