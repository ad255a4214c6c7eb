"""A device comes in by a token, through the coordinator's real gate; who has none of its own gets nothing, and is recorded."""

from __future__ import annotations

import getpass
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edgefl import layout
from edgefl.events.journal import Journal
from edgefl.events.schema import (
    CertificateIssued,
    CertificateRevoked,
    DeviceState,
    EnrolmentOpened,
    EnrolmentRefused,
    EnrolmentUsed,
)
from edgefl.pki import tokens
from edgefl.pki.enrol import GATE_NAME, PATH
from edgefl.pki.register import Register

from .certified import certified, csr, made
from .conftest import Service, gate_configuration

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory, address: str, service: Service) -> Path:
    return certified(tmp_path_factory.mktemp("identities"), address, service)


@dataclass(frozen=True)
class Device:
    """A device's configuration as `up` leaves it, but for a certificate; root and its account are whoever tests."""

    config: Path

    @property
    def identity(self) -> Path:
        return self.config / "identity"

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.identity / "device.crt").read_bytes())

    def enrol(self, *argv: str, said: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgefl.pki.enrol", "--config", str(self.config), "--account", getpass.getuser(), *argv]
        return subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def device(tmp_path: Path, identities: Path, gate: str) -> Device:
    return device_of(tmp_path, identities, "edge-01", gate)


def device_of(tmp_path: Path, identities: Path, name: str, gate: str, port: int = layout.FLEET_PORT) -> Device:
    config = tmp_path / name
    (config / "identity").mkdir(parents=True)
    coordinator = {"address": gate, "port": port}
    (config / "host.json").write_text(json.dumps({"name": name, "site": "clinic", "role": "device", "coordinator": coordinator}))
    (config / "identity" / "ca.crt").write_bytes((identities / "ca.crt").read_bytes())
    return Device(config)


def open_for(journal: Journal, name: str) -> str:
    """A token, as the operator's command has the coordinator note it."""
    token = tokens.make()
    given: dict[str, Any] = {"subject": name, "addresses": ["10.77.0.11"], "token_sha256": tokens.digest(token)}
    journal.append(EnrolmentOpened(who="alice@desk", valid_s=600, **given))
    return token


def said(journal: Journal, kind: type[Any]) -> list[Any]:
    return [event.body for event in journal.events() if isinstance(event.body, kind)]


@dataclass(frozen=True)
class Stranger:
    """Somebody at an address of their own who can reach the gate's port."""

    gate: str
    identities: Path
    source: str

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.identities / "ca.crt"))
        context.check_hostname = False
        return context

    def shake_hands(
        self, name: str | None, context: ssl.SSLContext, port: int = layout.FLEET_PORT, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        plain = socket.create_connection((self.gate, port), 20, source_address=(self.source, 0))
        return context.wrap_socket(plain, server_hostname=name, session=session)

    def request(self, secure: ssl.SSLSocket, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.gate, timeout=20)
        connection.sock = secure
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def post(self, token: str, csr_: str, **headers: str) -> tuple[int, str]:
        with closing(self.shake_hands(GATE_NAME, self.context())) as secure:
            return self.request(secure, "POST", PATH, {"token": token, "csr": csr_}, **headers)


@pytest.fixture
def stranger(request: pytest.FixtureRequest, gate: str, identities: Path) -> Stranger:
    """Each test's own, since the gate counts by address."""
    number = sum(map(ord, request.node.name)) % 60_000
    return Stranger(gate, identities, f"127.9.{number // 250}.{number % 250 + 1}")


def edgefl(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgefl", *argv], capture_output=True, text=True, check=False, timeout=120)


def test_a_device_comes_in_by_the_token_that_its_operator_read_out(
    device: Device, site: Path, journal: Journal, service: Service, gate: str
) -> None:
    given = edgefl("enrol", "token", "edge-01", "--site", str(site), "--why", "back from repair", "--json")
    assert given.returncode == 0, given.stdout
    token = json.loads(given.stdout.splitlines()[-1])["token"]
    done = device.enrol("--json", said=token.lower().replace("-", " ") + "\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["serial"] == format(device.certificate.serial_number, "x")
    names = device.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["edge-01"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.77.0.11")]
    assert [path.name for path in device.identity.glob("device.key*")] == ["device.key"]

    context = ssl.create_default_context(cafile=str(device.identity / "ca.crt"))
    context.load_cert_chain(device.identity / "device.crt", device.identity / "device.key")
    connection = http.client.HTTPSConnection(gate, layout.FLEET_PORT, timeout=20, context=context)
    connection.request("POST", "/v1/fleet/PullMessages")
    assert connection.getresponse().status == 503, "the gate lets it through to a SuperLink that is not there"

    [opened], [used] = said(journal, EnrolmentOpened), said(journal, EnrolmentUsed)
    assert opened.why == "back from repair"
    assert "@" in opened.who, "who gave it out, the certificate says"
    assert (used.subject, used.serial) == ("edge-01", format(device.certificate.serial_number, "x"))
    log = edgefl("audit", "log", "--site", str(site), "--json")
    told = [event["body"]["type"] for event in json.loads(log.stdout.splitlines()[-1])["events"]]
    assert told[-3:] == ["enrolment_opened", "certificate_issued", "enrolment_used"]
    assert edgefl("certs", "list", "--site", str(site)).returncode == 0
    known = Register(site / ".edgefl" / "pki" / "index.jsonl").entries()
    assert used.serial in [entry.serial for entry in known], "so that it can be revoked"
    for place in (*service.directory.iterdir(), *site.rglob("*")):
        if place.is_file():
            assert token.encode() not in place.read_bytes(), place


def test_an_answer_that_was_lost_is_given_again_to_the_same_key_and_to_no_other(stranger: Stranger, journal: Journal) -> None:
    token, request = open_for(journal, "edge-02"), csr("edge-02", made())
    first, again = stranger.post(token, request), stranger.post(token, request)
    assert first[0] == 200
    assert again == first
    issued = [body for body in said(journal, CertificateIssued) if body.subject == "edge-02"]
    assert len(issued) == 1
    status, why = stranger.post(token, csr("edge-02", made()))
    assert (status, "was used for another key" in why) == (403, True)


@pytest.mark.parametrize(
    ("name", "more", "why"),
    [
        ("edge-01", (), "names ['edge-01']"),
        ("coordinator", (), "names ['coordinator']"),
        ("edge-03", (x509.DNSName("edge-01"),), "edge-01"),
        ("edge-03", (x509.DNSName("coordinator"),), "coordinator"),
        ("edge-03", (x509.IPAddress(ip_address("10.77.0.12")),), "10.77.0.12"),
        ("edge-03", (x509.UniformResourceIdentifier("spiffe://clinic/operator"),), "spiffe"),
    ],
    ids=["another name", "the coordinator", "a foreign name", "the gate's name", "a foreign address", "a foreign kind"],
)
def test_a_request_for_more_than_its_own_is_refused_and_recorded(
    name: str, more: tuple[x509.GeneralName, ...], why: str, stranger: Stranger, journal: Journal
) -> None:
    token = open_for(journal, "edge-03")
    before = len(said(journal, CertificateIssued))
    status, told = stranger.post(token, csr(name, made(), *more))
    assert (status, why in json.loads(told)["what"]) == (403, True), told
    refused = said(journal, EnrolmentRefused)[-1]
    assert (refused.subject, refused.source, why in refused.reason) == (name, stranger.source, True)
    assert len(said(journal, CertificateIssued)) == before
    assert stranger.post(token, csr("edge-03", made()))[0] == 200, "the token is not used up by a mistake"


def test_tokens_that_do_not_count_are_refused(stranger: Stranger, journal: Journal) -> None:
    older = open_for(journal, "edge-03")
    newer = open_for(journal, "edge-03")
    for token in (older, tokens.make(), "short", ""):
        assert stranger.post(token, csr("edge-03", made()))[0] == 403, token
    journal.append(CertificateRevoked(subject="edge-03", serial="ab", reason="stolen"))
    assert stranger.post(newer, csr("edge-03", made()))[0] == 403, "whoever was revoked needs another"
    kept_out = open_for(journal, "edge-03")
    journal.append(DeviceState(device="edge-03", state="quarantined", detail="suspect"))
    status, why = stranger.post(kept_out, csr("edge-03", made()))
    assert (status, "edge-03 is quarantined" in why) == (403, True)
    journal.append(DeviceState(device="edge-03", state="enrolled"))
    assert stranger.post(open_for(journal, "edge-09"), csr("edge-09", made()))[0] == 403, "no device of the site"
    assert not any(token in event.model_dump_json() for event in journal.events() for token in (older, newer, kept_out))


def test_a_key_that_was_certified_before_is_not_certified_by_a_token(stranger: Stranger, journal: Journal) -> None:
    key = made()
    assert stranger.post(open_for(journal, "edge-02"), csr("edge-02", key))[0] == 200
    status, why = stranger.post(open_for(journal, "edge-02"), csr("edge-02", key))
    assert (status, "certified before" in why) == (403, True)


def test_without_a_certificate_there_is_this_one_way_and_no_other(stranger: Stranger, journal: Journal, gate: str) -> None:
    for name in (None, gate, "coordinator", "other.edgefl"):
        context = stranger.context()
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"), closing(stranger.shake_hands(name, context)) as secure:
            secure.recv(1)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        stranger.shake_hands(GATE_NAME, stranger.context(), layout.API_PORT).recv(1)
    forged = {"X-Edgefl-Name": "alice@desk", "X-Edgefl-Role": "operator"}
    closed = ("POST /v1/fleet/PullMessages", "GET /v1/status", "POST /v1/renew", "POST /v1/drift", f"GET {PATH}", "GET /metrics")
    for asked in closed:
        method, path = asked.split()
        with closing(stranger.shake_hands(GATE_NAME, stranger.context())) as secure:
            assert stranger.request(secure, method, path, {}, **forged)[0] == 403, asked
    for path in (f"{PATH}/../status", f"{PATH}/%2e%2e/status", f"/{PATH}"):
        with closing(stranger.shake_hands(GATE_NAME, stranger.context())) as secure:
            assert stranger.request(secure, "POST", path, {}, **forged)[0] in {403, 404}, path
    status, _ = stranger.post(tokens.make(), csr("edge-01", made()), **forged)
    assert status == 403
    assert said(journal, EnrolmentRefused)[-1].source == stranger.source, "who asks, the gate says"


def test_a_connection_begun_without_a_certificate_leads_nowhere_under_another_name(stranger: Stranger) -> None:
    for path in ("/v1/fleet/PullMessages", "/v1/renew", PATH):
        context = stranger.context()
        with closing(stranger.shake_hands(GATE_NAME, context)) as secure:
            secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while secure.recv(4096):
                pass
            session = secure.session  # a whole one, whose ticket came after the handshake
        with closing(stranger.shake_hands("other.edgefl", context, session=session)) as secure:
            assert secure.session_reused, "haproxy takes the session up, so that the second wall must hold"
            assert stranger.request(secure, "POST", path, {})[0] == 403, path


def test_a_device_that_has_a_certificate_finds_nothing_there(identities: Path, stranger: Stranger) -> None:
    context = stranger.context()
    context.load_cert_chain(identities / "edge-01.pem")
    with closing(stranger.shake_hands("coordinator", context)) as secure:
        assert stranger.request(secure, "POST", PATH, {"token": tokens.make(), "csr": ""})[0] == 404


def test_whoever_guesses_is_soon_not_listened_to_while_others_are(stranger: Stranger, journal: Journal) -> None:
    told = [stranger.post(tokens.make(), csr("edge-01", made()))[0] for _ in range(12)]
    assert told == [403] * 10 + [429] * 2
    with closing(stranger.shake_hands(GATE_NAME, stranger.context())) as secure:
        secure.sendall(f"POST {PATH} HTTP/1.1\r\nHost: gate\r\nContent-Length: 0\r\n\r\n".encode())
        assert b"retry-after: 60" in secure.recv(512).lower()
    large = replace(stranger, source="127.8.0.1")
    with closing(large.shake_hands(GATE_NAME, large.context())) as secure:
        secure.sendall(f"POST {PATH} HTTP/1.1\r\nHost: gate\r\nContent-Length: 20000\r\n\r\n".encode())
        assert b" 413 " in secure.recv(256)
    other = replace(stranger, source="127.8.0.2")
    assert other.post(open_for(journal, "edge-01"), csr("edge-01", made()))[0] == 200


def test_whoever_has_a_certificate_uses_up_none_of_its_neighbours_attempts(identities: Path, stranger: Stranger) -> None:
    context = stranger.context()
    context.load_cert_chain(identities / "edge-01.pem")
    for _ in range(12):
        with closing(stranger.shake_hands("coordinator", context)) as secure:
            assert stranger.request(secure, "POST", PATH, {"token": tokens.make(), "csr": ""})[0] == 404
    assert [stranger.post(tokens.make(), csr("edge-01", made()))[0] for _ in range(11)] == [403] * 10 + [429]


def test_what_the_gate_counts_has_a_counter_of_its_own(service: Service, identities: Path, address: str) -> None:
    keys: dict[str, set[str]] = {}
    for number, rule in re.findall(r"track-sc(\d) (.+)", gate_configuration(service, identities, address)):
        keys.setdefault(number, set()).add(rule.partition(" if ")[0])
    assert keys == {
        "0": {"var(txn.client) table clients"},
        "1": {"src"},
        "2": {"ssl_c_s_dn(CN) table names"},
    }


@contextmanager
def impostor(identities: Path, who: str) -> Iterator[tuple[int, list[bytes]]]:
    """A server with a certificate of the site that is not the gate's own, or not for this address; and what it was told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identities / f"{who}.pem")
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as secure:
                    heard.append(secure.recv(4096))
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(20)


@pytest.mark.parametrize("who", ["edge-02", "gate", "operator"])
def test_a_token_is_told_to_nobody_but_the_sites_gate(tmp_path: Path, identities: Path, gate: str, who: str) -> None:
    with impostor(identities, who) as (port, heard):
        device = device_of(tmp_path, identities, "edge-01", "127.0.0.1", port)
        done = device.enrol(said=tokens.make())
    assert done.returncode == 60, done.stderr
    assert "TLS with the coordinator failed" in done.stderr
    assert b"".join(heard) == b""


def test_what_is_wrong_on_the_device_is_said_with_what_to_do(tmp_path: Path, device: Device, identities: Path, gate: str) -> None:
    nothing = device.enrol("install", str(tmp_path / "none.crt"))
    assert (nothing.returncode, "cannot be read" in nothing.stderr) == (2, True)
    assert device.enrol(said="1234\n").returncode == 2
    unknown = device.enrol(said=tokens.make())
    assert (unknown.returncode, "no token that counts" in unknown.stderr) == (33, True)
    assert "edgefl enrol token" in unknown.stderr
    assert not (device.identity / "device.crt").exists()
    (tmp_path / "own.crt").write_bytes((identities / "edge-02.crt").read_bytes())
    foreign = device.enrol("install", str(tmp_path / "own.crt"))
    assert (foreign.returncode, "not of the key" in foreign.stderr) == (33, True)
    lost = device.enrol("request", str(tmp_path / "nowhere" / "x.csr"))
    assert (lost.returncode, "cannot be written" in lost.stderr) == (2, True)
    (device.identity / "device.key.enrolling").write_text("damaged")
    damaged = device.enrol("request", str(tmp_path / "x.csr"))
    assert (damaged.returncode, "--new-key" in damaged.stderr) == (33, True)
    assert device.enrol("request", str(tmp_path / "x.csr"), "--new-key").returncode == 0
    (device.config / "host.json").unlink()
    assert device.enrol(said=tokens.make()).returncode == 33
    away = device_of(tmp_path, identities, "edge-02", "127.0.0.1", 9)
    assert away.enrol(said=tokens.make()).returncode == 60
    assert all("Traceback" not in done.stderr for done in (nothing, unknown, foreign, lost, damaged))


def test_the_same_command_goes_on_after_a_lost_answer(device: Device, journal: Journal, stranger: Stranger) -> None:
    token = open_for(journal, "edge-01")
    assert device.enrol("request", str(device.config / "edge-01.csr")).returncode == 0
    waiting = (device.identity / "device.key.enrolling").read_bytes()
    assert (device.identity / "device.key.enrolling").stat().st_mode & 0o777 == 0o600
    status, told = stranger.post(token, (device.config / "edge-01.csr").read_text())  # the answer never arrives at the device
    assert status == 200
    assert device.enrol(said=token).returncode == 0
    assert (device.identity / "device.crt").read_text() == json.loads(told)["chain"]
    assert (device.identity / "device.key").read_bytes() == waiting
    other = device.enrol("--new-key", said=token)
    assert (other.returncode, "was used for another key" in other.stderr) == (33, True)
