"""A device renews its certificate through the coordinator's real gate; whoever wants more than its own gets nothing."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from edgefl import layout
from edgefl.events.journal import Journal
from edgefl.events.schema import CertificateIssued, CertificateRefused, DeviceState
from edgefl.federation.hostconfig import HostConfig
from edgefl.monitor.access import Caller
from edgefl.monitor.renewals import TELL_S, RenewalRefused, Renewals
from edgefl.monitor.state import FederationState
from edgefl.monitor.tail import Tail

from .certified import certified, csr, made
from .conftest import DEVICES, Service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory, address: str, service: Service) -> Path:
    return certified(tmp_path_factory.mktemp("identities"), address, service)


@dataclass(frozen=True)
class Host:
    """A device's folder of keys, and the gate that it knows."""

    identity: Path
    gate: str
    role: str = "device"

    def renew(self, coordinator: str = "", *, now: bool = True) -> subprocess.CompletedProcess[str]:
        """What the timer starts: ask as the node's account, install as root; here both are whoever tests."""
        between = self.identity / "between"
        between.mkdir(exist_ok=True)
        common = ["--key", f"{self.role}:{getpass.getuser()}", "--identity", str(self.identity), "--between", str(between)]
        place = coordinator or f"{self.gate}:{layout.FLEET_PORT}"
        environment = {**os.environ, "EDGEFL_RENEW": "now" if now else ""}
        asking = [sys.executable, "-m", "edgefl.pki.renew", "ask", *common, "--coordinator", place]
        asked = subprocess.run(asking, capture_output=True, text=True, check=False, env=environment)
        if asked.returncode:
            return asked
        installing = [sys.executable, "-m", "edgefl.pki.renew", "install", *common]
        return subprocess.run(installing, capture_output=True, text=True, check=False)

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.identity / f"{self.role}.crt").read_bytes())

    def post(
        self, csr_: str, path: str = "/v1/renew", method: str = "POST", port: int = layout.FLEET_PORT, **headers: str
    ) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.identity / "ca.crt"))
        context.load_cert_chain(self.identity / f"{self.role}.crt", self.identity / f"{self.role}.key")
        connection = http.client.HTTPSConnection(self.gate, port, timeout=20, context=context)
        connection.request(method, path, json.dumps({"csr": csr_}), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def host(tmp_path: Path, identities: Path, gate: str, name: str, role: str = "device") -> Host:
    identity = tmp_path / name
    identity.mkdir()
    for ending in ("key", "crt"):
        shutil.copy(identities / f"{name}.{ending}", identity / f"{role}.{ending}")
    shutil.copy(identities / "ca.crt", identity / "ca.crt")
    return Host(identity, gate, role)


def issued(journal: Journal, name: str) -> list[CertificateIssued]:
    bodies = [event.body for event in journal.events()]
    return [body for body in bodies if isinstance(body, CertificateIssued) and body.subject == name]


def test_a_device_renews_itself_and_comes_in_with_what_it_got(
    tmp_path: Path, identities: Path, gate: str, journal: Journal
) -> None:
    device = host(tmp_path, identities, gate, "edge-01")
    first = device.certificate
    assert device.renew(now=False).returncode == 0
    assert device.certificate == first, "it was not due"
    for turn in (1, 2):  # the second time with what the coordinator's own authority signed
        before, key = device.certificate, (device.identity / "device.key").read_bytes()
        done = device.renew()
        assert done.returncode == 0, done.stderr
        assert device.certificate.subject == first.subject
        assert device.certificate.public_key() != before.public_key()
        assert (device.identity / "device.key").read_bytes() != key
        newest = issued(journal, "edge-01")[-1]
        assert (newest.serial, newest.issuer) == (format(device.certificate.serial_number, "x"), "renewal")
        assert len(issued(journal, "edge-01")) == turn
    assert device.post("", "/v1/fleet/PullMessages")[0] == 503, "the gate lets it through to a SuperLink that is not there"


def test_the_coordinator_renews_its_own_over_the_monitors_socket(
    tmp_path: Path, identities: Path, gate: str, service: Service
) -> None:
    for role in ("gate", "superlink"):
        hub = host(tmp_path, identities, gate, role, role)
        before = hub.certificate
        done = hub.renew(str(service.socket))
        assert done.returncode == 0, done.stderr
        assert hub.certificate.subject == before.subject
        assert hub.certificate != before


def test_a_request_that_comes_again_or_asks_for_more_gets_nothing(
    tmp_path: Path, identities: Path, gate: str, journal: Journal
) -> None:
    device, key = host(tmp_path, identities, gate, "edge-02"), made()
    assert device.post(csr("edge-02", key))[0] == 200
    count = len(issued(journal, "edge-02"))
    refused = [
        csr("edge-02", key),
        csr("edge-01", made()),
        csr("edge-02", made(), x509.DNSName("edge-01")),
        csr("edge-02", made(), x509.DNSName("coordinator")),
        "no request",
    ]
    for request in refused:
        status, said = device.post(request)
        assert status == 403, said
    other = (identities / "edge-01.crt").read_text()
    forged = {"X-Edgefl-Name": "edge-01", "X-Edgefl-Role": "device", "X-Edgefl-Certificate": other.replace("\n", "")}
    assert device.post(csr("edge-01", made()), **forged)[0] == 403
    assert len(issued(journal, "edge-02")) == count
    told = [event.body for event in journal.events() if isinstance(event.body, CertificateRefused)]
    assert [(body.subject, body.role) for body in told] == [("edge-02", "device")], "by the name of its certificate, once"
    assert "before" in told[0].reason


async def test_what_is_refused_stands_in_the_journal_and_does_not_fill_it(tmp_path: Path) -> None:
    now = [1000.0]
    document = {"site": "clinic", "name": "coordinator", "role": "coordinator", "devices": DEVICES}
    clinic = HostConfig.model_validate({**document, "coordinator": {"name": "coordinator", "address": "127.0.0.1"}})
    with Journal(tmp_path / "journal.db") as journal:
        tail = Tail(journal, FederationState.enrolled("clinic", DEVICES))
        renewals = Renewals(clinic, tail, tmp_path, tmp_path, lambda: now[0])

        async def ask(name: str) -> list[tuple[str, int]]:
            with pytest.raises(RenewalRefused):
                await renewals.renew(Caller(name, "device"), "no certificate", "no request")
            bodies = [event.body for event in journal.events()]
            return [(body.subject, body.times) for body in bodies if isinstance(body, CertificateRefused)]

        assert await ask("edge-09") == [("edge-09", 1)]
        for _ in range(30):
            now[0] += 1
            assert len(await ask("edge-09")) == 1
        assert await ask("edge-01") == [("edge-09", 1), ("edge-01", 1)], "another's refusals are told by themselves"
        now[0] += TELL_S
        assert (await ask("edge-09"))[-1] == ("edge-09", 31)
        last = [event.body for event in journal.events()][-1]
        assert isinstance(last, CertificateRefused)
        assert (last.role, last.reason) == ("device", "edge-09 is no device of clinic")


def test_the_way_to_the_monitor_is_this_one_path(tmp_path: Path, identities: Path, gate: str) -> None:
    device = host(tmp_path, identities, gate, "edge-02")
    for asked in ("GET /v1/renew", "POST /v1/renew/x", "POST /v1/runs", "GET /v1/status", "GET /metrics"):
        method, path = asked.split()
        assert device.post("", path, method)[0] == 404, asked
    operator = host(tmp_path, identities, gate, "operator", "operator")
    assert operator.post(csr("alice@desk", made()))[0] == 403
    assert operator.post(csr("alice@desk", made()), port=layout.API_PORT)[0] in {400, 403}


def test_a_device_in_quarantine_and_one_that_asks_too_often_get_nothing(
    tmp_path: Path, identities: Path, gate: str, journal: Journal
) -> None:
    device = host(tmp_path, identities, gate, "edge-03")
    told = [device.post(csr("edge-03", made()))[0] for _ in range(8)]
    assert told == [200] * 6 + [429] * 2
    journal.append(DeviceState(device="edge-03", state="quarantined", detail="suspect"))
    status, said = device.post(csr("edge-03", made()))
    assert (status, "quarantined" in said) == (403, True)


def test_what_is_not_ones_own_is_never_put_in_place(tmp_path: Path, identities: Path, gate: str) -> None:
    device, before = host(tmp_path, identities, gate, "edge-01"), (identities / "edge-01.crt").read_bytes()
    between = device.identity / "between"
    between.mkdir()
    common = ["--key", f"device:{getpass.getuser()}", "--identity", str(device.identity), "--between", str(between)]
    command = [sys.executable, "-m", "edgefl.pki.renew", "install", *common]
    for foreign in ("edge-02", "operator"):
        for ending in ("key", "crt"):
            shutil.copy(identities / f"{foreign}.{ending}", between / f"device.{ending}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout
        assert (device.identity / "device.crt").read_bytes() == before
    for ending in ("key", "crt"):
        (between / f"device.{ending}").unlink()
        (between / f"device.{ending}").symlink_to("/etc/passwd")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0, "a link is as good as nothing"
    assert (device.identity / "device.crt").read_bytes() == before


def test_a_power_failure_between_certificate_and_key_is_made_good(tmp_path: Path, identities: Path, gate: str) -> None:
    device = host(tmp_path, identities, gate, "edge-01")
    assert device.renew().returncode == 0
    key, old = device.identity / "device.key", (identities / "edge-01.key").read_bytes()
    key.rename(device.identity / "device.key.renewed")
    key.write_bytes(old)
    common = ["--key", f"device:{getpass.getuser()}", "--identity", str(device.identity), "--between", str(tmp_path / "none")]
    command = [sys.executable, "-m", "edgefl.pki.renew", "install", *common]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    ssl.create_default_context().load_cert_chain(device.identity / "device.crt", key)
