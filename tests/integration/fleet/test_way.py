"""The way from a device to its coordinator, broken at each step on purpose: a real gate, real TLS, only the hosts are folders."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.federation.hostconfig import Places
from edgefl.federation.loopback import Loopback, certify, gate_configuration
from edgefl.fleet import way
from edgefl.fleet.doctor import verdict
from edgefl.fleet.finding import Finding
from edgefl.fleet.remote import program
from edgefl.pki.authority import Authority
from tests.integration.conftest import site_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed (apt-get install haproxy)"),
]


@dataclass(frozen=True)
class Ground:
    """A prepared federation without services: keys, certificates and documents of a coordinator and a device."""

    loop: Loopback

    @property
    def device(self) -> Places:
        return self.loop.places("edge-1")

    @property
    def gate(self) -> Path:
        return self.loop.places("coordinator").identity

    @property
    def authority(self) -> Authority:
        return Authority.open(self.loop.root / "operator", site=self.loop.site)

    @property
    def port(self) -> int:
        return self.loop.ports["gate"]

    def join_gate(self) -> None:
        """What haproxy reads, from key and chain."""
        (self.gate / "gate.pem").write_bytes(b"".join((self.gate / f"gate.{end}").read_bytes() for end in ("key", "crt")))

    def walk(self, **environment: str) -> dict[str, Any]:
        """What the program says that runs on a device."""
        argv = [sys.executable, "-", "", str(self.device.config), str(self.port)]
        done = subprocess.run(
            argv, input=program("way"), capture_output=True, check=False, timeout=60, env={**os.environ, **environment}
        )
        return dict(json.loads(done.stdout))

    def verdict(self) -> Finding | None:
        return verdict(way.judge("edge-1", self.walk(), "coordinator"))


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    loop = Loopback(tmp_path / "loop", site_of(tmp_path, ["edge-1"], {}), {"edge-1": tmp_path}, use_gate=True)
    loop.prepare()
    return Ground(loop)


@contextmanager
def gate(ground: Ground) -> Iterator[None]:
    """The real gate, in front of a SuperLink that is not there; ready when it listens."""
    configuration = ground.loop.root / "gate.cfg"
    configuration.write_text(gate_configuration(ground.gate, ground.port, ground.loop.ports["superlink"]))
    process = subprocess.Popen(["haproxy", "-db", "-f", str(configuration)], stdout=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", ground.port)):
            assert process.poll() is None, "haproxy ended"
            assert time.monotonic() < ends, "haproxy does not listen"
        yield
    finally:
        process.terminate()
        process.wait(60)


class Answers(BaseHTTPRequestHandler):
    """Says, as a SuperLink does to a path that it does not have, that there is nothing, and when."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def behind(ground: Ground) -> Iterator[None]:
    """Somebody who answers where the gate looks for the SuperLink, with its certificate."""
    server = HTTPServer(("127.0.0.1", ground.loop.ports["superlink"]), Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ground.gate / "superlink.crt", ground.gate / "superlink.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def address(ground: Ground, said: str) -> None:
    """Let the device look for its coordinator there."""
    document = json.loads(ground.device.host.read_text())
    document["coordinator"]["address"] = said
    ground.device.host.write_text(json.dumps(document))


def dated(ground: Ground, begins: timedelta, ends: timedelta) -> None:
    """The gate's certificate, of the site's authority, but for another time."""
    directory = ground.loop.root / "operator" / "pki"
    issuer = x509.load_pem_x509_certificate((directory / "issuing.crt").read_bytes())
    signer = serialization.load_pem_private_key((directory / "issuing.key").read_bytes(), None)
    own = serialization.load_pem_private_key((ground.gate / "gate.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    old, now = x509.load_pem_x509_certificate((ground.gate / "gate.crt").read_bytes()), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(issuer.subject).public_key(own.public_key())
    builder = builder.serial_number(7).not_valid_before(now + begins).not_valid_after(now + ends)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    chain = builder.sign(signer, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)
    (ground.gate / "gate.crt").write_bytes(chain + (directory / "issuing.crt").read_bytes())
    ground.join_gate()


def another(ground: Ground) -> Authority:
    """An authority of the same name that is not the site's."""
    return Authority.open(ground.loop.root / "stranger", site=ground.loop.site)


def told(found: Finding | None) -> tuple[str, str]:
    assert found is not None
    return found.check, found.found


def test_a_name_that_does_not_resolve(ground: Ground) -> None:
    address(ground, "gate.invalid")
    check, found = told(ground.verdict())
    assert (check, "gate.invalid does not resolve" in found) == ("dns", True)


def test_a_gate_that_is_down_and_a_port_without_tls(ground: Ground) -> None:
    assert "the gate does not run" in told(ground.verdict())[1]

    def hang_up(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"220 mail\r\n")

    with closing(socket.create_server(("127.0.0.1", ground.port))) as listener:
        threading.Thread(target=hang_up, args=[listener], daemon=True).start()
        check, found = told(ground.verdict())
        listener.shutdown(socket.SHUT_RDWR)
    assert (check, "not with TLS" in found) == ("tls", True)


@pytest.mark.parametrize(
    ("begins", "ends", "says"), [(-48, -24, "expired on"), (24, 48, "only from")], ids=["expired", "not yet valid"]
)
def test_a_gate_whose_certificate_does_not_serve_now(ground: Ground, begins: int, ends: int, says: str) -> None:
    dated(ground, timedelta(hours=begins), timedelta(hours=ends))
    with gate(ground):
        check, found = told(ground.verdict())
    assert (check, says in found) == ("tls", True), found


def test_a_gate_of_another_authority(ground: Ground) -> None:
    certify(ground.gate, "gate", "gate", "coordinator", another(ground), "127.0.0.1")
    ground.join_gate()
    with gate(ground):
        check, found = told(ground.verdict())
    assert (check, "not of the authority that this device knows" in found) == ("tls", True), found


def test_a_gate_whose_certificate_has_another_name(ground: Ground) -> None:
    certify(ground.gate, "gate", "gate", "coordinator", ground.authority, "127.0.0.9")
    ground.join_gate()
    with gate(ground):
        check, found = told(ground.verdict())
    assert check == "name"
    assert "127.0.0.9, not for 127.0.0.1" in found


def test_a_device_whose_certificate_the_gate_refuses(ground: Ground) -> None:
    with gate(ground):
        certify(ground.device.identity, "device", "device", "edge-1", another(ground))
        check, found = told(ground.verdict())
        assert (check, "from an authority that the gate does not know" in found) == ("admission", True), found
        certify(ground.device.identity, "device", "signer", "edge-1", ground.authority)
        check, found = told(ground.verdict())
        assert check == "admission", found


def test_a_device_whose_certificate_is_revoked(ground: Ground) -> None:
    authority = ground.authority
    for entry in authority.certificates():
        if entry.role == "device":
            authority.revoke(entry.serial, "lost")
    (ground.gate / "crl.pem").write_bytes(authority.crl())
    with gate(ground):
        check, found = told(ground.verdict())
    assert (check, "is revoked" in found) == ("admission", True), found


def test_a_superlink_that_is_away_and_then_back_with_its_clock(ground: Ground, tmp_path: Path) -> None:
    with gate(ground):
        check, found = told(ground.verdict())
        assert (check, "no SuperLink behind it (503)" in found) == ("superlink", True), found
        with behind(ground):
            assert ground.verdict() is None
            (tmp_path / "sitecustomize.py").write_text("import time\ntime.time = lambda true=time.time: true() - 90\n")
            skew = way.clock_skew_s(ground.walk(PYTHONPATH=str(tmp_path)))
    assert skew == pytest.approx(-90, abs=10)
