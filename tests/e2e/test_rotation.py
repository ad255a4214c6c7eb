"""Every key of a fleet is replaced while it trains, and no round has a device less."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki import forms
from edgefl.pki.profiles import USAGES

from .conftest import DEVICES, Fleet, last_object, life, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]


def current(fleet: Fleet) -> dict[tuple[str, str], dict[str, Any]]:
    """The certificate of each name and role."""
    done = fleet.edgefl("certs", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {(one["name"], one["role"]): one for one in last_object(done)["certificates"]}


def test_all_keys_are_replaced_in_the_middle_of_a_run_and_no_round_misses_a_device(fleet: Fleet) -> None:
    before = current(fleet)
    with fleet.training(), fleet.rounds() as seen:
        done = fleet.edgefl("certs", "rotate", "--json")
        assert done.returncode == 0, done.stdout[-3000:]
        rotated = current(fleet)
        for host in ("coordinator", *DEVICES):
            life.renew(fleet.lab, host)
        renewed = current(fleet)
    assert life.short(seen, DEVICES) == []
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
    fleet.on("edge-04", "systemctl", "stop", "edgefl-supernode")
    until(lambda: online(fleet) == len(DEVICES) - 1, "edge-04 to sleep")
    fleet.on("edge-04", "sh", "-c", f"cat > /etc/edgefl/identity/device.crt <<'END'\n{ended(fleet, 'edge-04')}END")
    fleet.on("edge-04", "systemctl", "start", "--no-block", "edgefl-supernode")
    said = fleet.on("edge-04", "sh", "-c", life.RENEW_NOW, timeout_s=120)
    assert said.returncode != 0
    assert "the operator alone can renew it now" in said.stdout
    assert "edgefl certs rotate edge-04" in said.stdout
    assert online(fleet) == len(DEVICES) - 1
    done = fleet.edgefl("certs", "rotate", "edge-04", "--json")
    assert done.returncode == 0, done.stdout[-3000:]
    until(lambda: online(fleet) == len(DEVICES), "edge-04 to come back by itself")


def online(fleet: Fleet) -> int:
    """How many devices the SuperLink hears."""
    return int(last_object(fleet.edgefl("status", "--json"))["online"])


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
    with fleet.training():
        with fleet.rounds() as seen:
            done = fleet.edgefl("certs", "rotate-ca", "--json")
            assert done.returncode == 0, done.stdout[-3000:]
        assert fleet.edgefl("certs", "rotate-ca", "--finish", "--json").returncode == 12, "not while a run is going"
    assert life.short(seen, DEVICES) == []
    assert current(fleet)["root", "authority"]["serial"] != before["root", "authority"]["serial"]
    done = fleet.edgefl("certs", "rotate-ca", "--finish", "--json")
    assert done.returncode == 0, done.stdout[-3000:]
    trusted = fleet.on("edge-01", "cat", "/etc/edgefl/identity/ca.crt").stdout
    assert trusted.count("BEGIN CERTIFICATE") == 2
    until(lambda: online(fleet) == len(DEVICES), "every device to be online")
