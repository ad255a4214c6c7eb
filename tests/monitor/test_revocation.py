"""A revocation at a real gate: connections that live end, new ones are refused, and a restart forgets nothing."""

from __future__ import annotations

import http.client
import json
import runpy
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgefl import layout
from edgefl.fleet.remote import program
from edgefl.pki.anchors import revoked_serials
from edgefl.pki.authority import Authority
from edgefl.site.model import Site

from .conftest import DEVICES, Service, gate_configuration, wait_for

pytestmark = pytest.mark.slow


class Gate:
    """haproxy as its unit runs it, a master with workers, on an address of the loopback; identities of its own authority."""

    def __init__(self, service: Service, directory: Path, address: str) -> None:
        haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
        if haproxy is None:
            pytest.skip("haproxy is not installed")
        self.haproxy, self.directory, self.address = haproxy, directory, address
        self.site = Site.model_validate({"name": "clinic", "devices": [{"name": name} for name in DEVICES]})
        self.authority = Authority.open(directory / "state", site=self.site)
        self.serials: dict[str, str] = {}
        for file, name, role in (
            ("gate", "coordinator", "gate"),
            ("alice", "alice@desk", "operator"),
            ("mallory", "mallory@desk", "operator"),
            ("edge-01", "edge-01", "device"),
            ("edge-02", "edge-02", "device"),
        ):
            self.certify(file, name, role)
        (directory / "ca.crt").write_bytes(self.authority.bundle())
        (directory / "crl.pem").write_bytes(self.authority.crl())
        text = gate_configuration(service, directory, address).replace(str(service.directory / "revoked.acl"), str(self.acl))
        (directory / "haproxy.cfg").write_text(text)
        self.acl.touch()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def acl(self) -> Path:
        return self.directory / "revoked.acl"

    def certify(self, file: str, name: str, role: Any) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        addresses = ["127.0.0.1"] if role == "gate" else []
        issued = self.authority.sign_csr(
            request.public_bytes(serialization.Encoding.PEM), name=name, role=role, addresses=addresses
        )
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.directory / f"{file}.pem").write_bytes(pem + issued.chain)
        self.serials[file] = issued.serial

    def start(self) -> None:
        master = f"{self.directory / 'master.sock'},mode,600"
        with (self.directory / "haproxy.log").open("ab") as log:
            command = [self.haproxy, "-W", "-S", master, "-f", str(self.directory / "haproxy.cfg")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self.listens, f"haproxy: {(self.directory / 'haproxy.log').read_text()}")

    def listens(self) -> bool:
        with suppress(OSError), socket.create_connection((self.address, layout.API_PORT), 1):
            return True
        return False

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def connect(self, who: str, port: int) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        context.check_hostname = False
        context.load_cert_chain(self.directory / f"{who}.pem")
        return http.client.HTTPSConnection(self.address, port, context=context, timeout=10)

    def revoke(self, who: str) -> dict[str, Any]:
        """As the operation does it; what the program on the coordinator answers."""
        self.authority.revoke(self.serials[who], "stolen")
        return self.tell()

    def tell(self) -> dict[str, Any]:
        crl = self.authority.crl().decode()
        moved = program("gate").decode()
        for there, here in {
            "/etc/edgefl/identity/crl.pem": self.directory / "crl.pem",
            "/etc/edgefl/gate/revoked.acl": self.acl,
            "/run/edgefl-gate/master.sock": self.directory / "master.sock",
        }.items():
            assert there in moved
            moved = moved.replace(there, str(here))
        told = json.dumps({"crl": crl, "serials": revoked_serials(crl), "names": []})
        done = subprocess.run([sys.executable, "-c", moved], input=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture
def gate(service: Service, tmp_path: Path, address: str) -> Iterator[Gate]:
    made = Gate(service, tmp_path, address)
    made.start()
    yield made
    made.end()


def status(connection: http.client.HTTPSConnection, path: str) -> int:
    """What the gate answers; 0 where it ends the connection instead."""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    return answer.status


def follow(gate: Gate, who: str) -> http.client.HTTPResponse:
    """An endless answer in the middle of its way."""
    connection = gate.connect(who, layout.API_PORT)
    connection.request("GET", "/v1/events?follow=true")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read1(1)
    return answer


def is_over(answer: http.client.HTTPResponse) -> bool:
    """Whether the connection under an answer that was going on has ended."""
    try:
        while answer.read1(65536):
            pass
    except TimeoutError:
        return False
    except (OSError, http.client.HTTPException):
        return True
    return True


NOWHERE = "/"
"""A path that the fleet's port has for nobody: 404 says that the certificate was let in."""


def test_a_live_connection_gets_nothing_any_more_and_others_go_on(gate: Gate) -> None:
    mallory, alice = follow(gate, "mallory"), follow(gate, "alice")
    device, other = gate.connect("edge-01", layout.FLEET_PORT), gate.connect("edge-02", layout.FLEET_PORT)
    assert (status(device, NOWHERE), status(other, NOWHERE)) == (404, 404)
    assert gate.revoke("mallory") == {"live": True, "ended": 1}
    assert is_over(mallory)
    assert gate.revoke("edge-01")["live"] is True
    assert status(device, NOWHERE) in (0, 503), "the connection that was open between two requests"
    assert status(gate.connect("edge-01", layout.FLEET_PORT), NOWHERE) == 0, "refused in the handshake"
    assert status(other, NOWHERE) == 404
    assert alice.read1(1), "an operator at the same address goes on"
    assert gate.tell() == {"live": True, "ended": 0}, "a second time it changes nothing"


def test_what_a_reload_left_behind_ends_too(gate: Gate) -> None:
    mallory = follow(gate, "mallory")
    assert gate.process is not None
    gate.process.send_signal(12)  # SIGUSR2, as the unit's reload
    scope = runpy.run_path(str(Path(__file__).parents[2] / "edgefl" / "fleet" / "remote" / "gate.py"))
    scope["said"].__globals__["MASTER"] = str(gate.directory / "master.sock")

    def is_reloaded() -> bool:
        with suppress(OSError):
            return len(scope["workers"]()) == 2
        return False

    wait_for(is_reloaded, "the old worker beside the new one")
    assert gate.revoke("mallory") == {"live": True, "ended": 1}
    assert is_over(mallory)


def test_a_restart_forgets_nothing_and_a_gate_that_is_down_refuses_when_it_starts(gate: Gate) -> None:
    gate.revoke("edge-01")
    gate.end()
    assert gate.revoke("edge-02") == {"live": False, "ended": 0}
    gate.start()
    for who in ("edge-01", "edge-02"):
        assert status(gate.connect(who, layout.FLEET_PORT), NOWHERE) == 0
    assert status(gate.connect("alice", layout.API_PORT), "/v1/status") == 200


def test_a_serial_is_refused_by_itself_where_the_handshake_lets_it_in(gate: Gate) -> None:
    """The list of serials is what counts: of the revocation lists haproxy knows only what fits into its buffer."""
    device = gate.connect("edge-01", layout.FLEET_PORT)
    assert status(device, NOWHERE) == 404
    serial = gate.serials["edge-01"]
    gate.end()
    gate.acl.write_text(f"{int(serial, 16):040X}\n")
    gate.start()
    assert status(gate.connect("edge-01", layout.FLEET_PORT), NOWHERE) == 503
