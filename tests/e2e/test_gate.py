"""Who gets through the gate: nobody without a certificate, and nobody to a path that is not their role's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgefl import layout
from edgefl.pki.authority import Authority
from edgefl.site import load

from .conftest import Fleet, kept

pytestmark = pytest.mark.e2e

CLIENT = """\
import http.client, json, ssl, sys
want = json.load(sys.stdin)
context = ssl.create_default_context(cadata=want["ca"])
if want["chain"]:
    import os, tempfile
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for name in ("chain", "key"):
            with open(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(want[name])
        context.load_cert_chain(f"{folder}/chain", f"{folder}/key")
if want["only_shakes_hands"]:
    # Nothing is sent after the handshake: what a server says of the certificate then arrives, and no reset can overtake it.
    import socket
    said = {"alert": "", "closed": False}
    with socket.create_connection((want["host"], want["port"]), 60) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=want["host"]) as secure:
                secure.settimeout(want["patience_s"])
                said["closed"] = secure.recv(1) == b""
        except TimeoutError:
            pass
        except ssl.SSLError as error:
            said["alert"] = error.reason or str(error)
    print(json.dumps(said))
    sys.exit()
try:
    connection = http.client.HTTPSConnection(want["host"], want["port"], context=context, timeout=60)
    connection.request(want["method"], want["path"], headers=want["headers"])
    answer = connection.getresponse()
    body = answer.read(300).decode(errors="replace")
    print(json.dumps({"status": answer.status, "server": answer.getheader("server", ""), "body": body}))
except (OSError, ssl.SSLError) as error:
    print(json.dumps({"status": 0, "why": f"{type(error).__name__}: {error}"}))
"""


@dataclass(frozen=True)
class Identity:
    chain: str = ""
    key: str = ""


def private_key() -> tuple[ec.EllipticCurvePrivateKey, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key, pem.decode()


def authority_of(fleet: Fleet) -> Authority:
    site = load(fleet.directory)
    return Authority.open(site.state, site=site)


def issued(fleet: Fleet, name: str, role: str) -> tuple[Identity, str]:
    """A certificate that the site's own authority signed, and its serial."""
    key, pem = private_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    signed = authority_of(fleet).sign_csr(request.public_bytes(serialization.Encoding.PEM), name=name, role=role)  # type: ignore[arg-type]
    return Identity(signed.chain.decode(), pem), signed.serial


Signer = Literal["the authority", "another authority", "itself"]


def forged(
    fleet: Fleet, signed_by: Signer, begins: timedelta = -timedelta(hours=1), ends: timedelta = timedelta(hours=1)
) -> Identity:
    """A device's certificate but for when it is valid or who signed it: an authority of the same name, or the device itself."""
    key, pem = private_key()
    directory = fleet.directory / ".edgefl" / "pki"
    issuer = x509.load_pem_x509_certificate((directory / "issuing.crt").read_bytes())
    own = serialization.load_pem_private_key((directory / "issuing.key").read_bytes(), None)
    signer = {"the authority": own, "another authority": ec.generate_private_key(ec.SECP384R1()), "itself": key}[signed_by]
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    names = [
        (NameOID.ORGANIZATION_NAME, load(fleet.directory).name),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "device"),
        (NameOID.COMMON_NAME, "edge-02"),
    ]
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if signed_by == "itself" else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .sign(signer, hashes.SHA384())
    )
    above = b"" if signed_by == "itself" else (directory / "issuing.crt").read_bytes()
    return Identity((certificate.public_bytes(serialization.Encoding.PEM) + above).decode(), pem)


def ask(
    fleet: Fleet,
    who: Identity,
    path: str,
    *,
    port: int = layout.FLEET_PORT,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    only_shakes_hands: bool = False,
    patience_s: float = 60,
) -> dict[str, object]:
    """Ask the gate: at the fleet port from a device as its SuperNode's user, at the API port from the operator's place.

    patience_s: how long a gate is listened to that has nothing to say against a handshake.
    """
    address = fleet.lab.read("coordinator").spec.address  # type: ignore[union-attr]
    ca = authority_of(fleet).bundle().decode()
    want = {"host": address, "port": port, "method": method, "path": path, "headers": headers or {}, "ca": ca}
    how = {"only_shakes_hands": only_shakes_hands, "patience_s": patience_s}
    told = json.dumps({**want, **how, "chain": who.chain, "key": who.key})
    if port == layout.FLEET_PORT:
        argv = ["setpriv", "--reuid", layout.USER_NODE, "--regid", layout.USER_NODE, "--clear-groups", "python3", "-c", CLIENT]
        done = fleet.lab.execute("edge-02", argv, told)
    else:
        import subprocess

        from edgefl.lab.capsule import Capsule

        capsule = Capsule(fleet.lab.root)
        done = subprocess.run([*capsule.enter("python3", "-c", CLIENT)], input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


FLEET = "/v1/fleet/PullMessage"


def test_a_device_reaches_flower_with_its_own_certificate(fleet: Fleet) -> None:
    who, _ = issued(fleet, "edge-02", "device")
    assert ask(fleet, who, FLEET)["server"] == "uvicorn"


def test_a_certificate_that_is_forged_in_nothing_reaches_flower(fleet: Fleet) -> None:
    """What the refusals below are measured by: the same certificate, valid and signed by the authority, is let in."""
    who = forged(fleet, "the authority")
    assert ask(fleet, who, FLEET)["server"] == "uvicorn"
    assert ask(fleet, who, FLEET, only_shakes_hands=True, patience_s=2) == {"alert": "", "closed": False}


DAY = timedelta(days=1)
REFUSED: dict[str, tuple[Callable[[Fleet], Identity], str]] = {
    "no certificate": (lambda _: Identity(), "CERTIFICATE_REQUIRED"),
    "an expired one": (lambda fleet: forged(fleet, "the authority", -2 * DAY, -timedelta(minutes=1)), "CERTIFICATE_EXPIRED"),
    "one from the future": (lambda fleet: forged(fleet, "the authority", DAY, 2 * DAY), "BAD_CERTIFICATE"),
    "one that another authority signed": (
        lambda fleet: forged(fleet, "another authority"),
        "DECRYPT_ERROR",
    ),
    "one that it signed itself": (lambda fleet: forged(fleet, "itself"), "UNKNOWN_CA"),
}
"""Clients, and the TLS alert that the gate answers each with."""


@pytest.mark.parametrize("kind", list(REFUSED))
def test_a_client_without_a_valid_certificate_is_told_why_and_gets_nothing(fleet: Fleet, kind: str) -> None:
    make, alert = REFUSED[kind]
    who = make(fleet)
    for port, path in ((layout.FLEET_PORT, FLEET), (layout.API_PORT, "/v1/status"), (layout.API_PORT, "/metrics")):
        told = ask(fleet, who, path, port=port, only_shakes_hands=True)
        assert re.search(alert, str(told["alert"])), told
        answer = ask(fleet, who, path, port=port)
        assert answer["status"] == 0, answer


@pytest.mark.parametrize(
    "path", ["/v1/control/StartRun", "/v1/runtime/GetRun", "/v1/fleet/../control/StartRun", "//v1/control/x", "/", "/health"]
)
def test_a_device_reaches_no_other_api_of_flower(fleet: Fleet, path: str) -> None:
    who, _ = issued(fleet, "edge-02", "device")
    answer = ask(fleet, who, path)
    assert answer["status"] in (403, 404)
    assert answer["server"] != "uvicorn"


@pytest.mark.parametrize("role", ["operator", "scraper"])
def test_no_other_role_reaches_the_fleet(fleet: Fleet, role: str) -> None:
    who, _ = issued(fleet, "somebody", role)
    assert ask(fleet, who, FLEET)["status"] == 403


def test_a_device_gets_nothing_of_the_monitor(fleet: Fleet) -> None:
    who, _ = issued(fleet, "edge-02", "device")
    for path in ("/v1/status", "/v1/events", "/metrics", "/v1/runs"):
        assert ask(fleet, who, path, port=layout.API_PORT, method="GET")["status"] == 403


def test_a_scraper_gets_the_metrics_and_nothing_else(fleet: Fleet) -> None:
    who, _ = issued(fleet, "prometheus", "scraper")
    metrics = ask(fleet, who, "/metrics", port=layout.API_PORT, method="GET")
    assert metrics["status"] == 200
    assert "# HELP" in str(metrics["body"])
    assert ask(fleet, who, "/v1/status", port=layout.API_PORT, method="GET")["status"] == 403


def test_a_forged_name_in_a_request_counts_for_nothing(fleet: Fleet) -> None:
    who, _ = issued(fleet, "prometheus", "scraper")
    forged_headers = {"X-Edgefl-Role": "operator", "X-Edgefl-Name": "root"}
    assert ask(fleet, who, "/v1/status", port=layout.API_PORT, method="GET", headers=forged_headers)["status"] == 403


def test_a_revoked_certificate_opens_nothing_after_the_next_up_and_others_still_do(fleet: Fleet) -> None:
    who, serial = issued(fleet, "edge-02", "device")
    another, _ = issued(fleet, "edge-02", "device")
    assert ask(fleet, who, FLEET)["server"] == "uvicorn"
    authority_of(fleet).revoke(serial, "stolen")
    assert fleet.edgefl("up", "--json").returncode == 0
    told = ask(fleet, who, FLEET, only_shakes_hands=True)
    assert "CERTIFICATE_REVOKED" in str(told["alert"]), told
    assert ask(fleet, who, FLEET)["status"] == 0
    assert ask(fleet, another, FLEET)["server"] == "uvicorn", "the door itself is open"


@pytest.mark.parametrize(
    ("user", "reaches"), [("nobody", False), ("root", False), (layout.USER_GATE, True), (layout.USER_MONITOR, True)]
)
def test_only_edgefls_own_users_reach_the_superlink(fleet: Fleet, user: str, reaches: bool) -> None:
    probe = "import socket; socket.create_connection(('127.0.0.1', 8000), 3)"
    done = fleet.on("coordinator", "setpriv", "--reuid", user, "--clear-groups", "python3", "-c", probe)
    assert (done.returncode == 0) is reaches, done.stderr


def test_a_certificates_key_never_left_its_host(fleet: Fleet) -> None:
    for host, file in (("edge-01", "device.key"), ("edge-01", "node.key"), ("coordinator", "superlink.key")):
        mode = fleet.on(host, "stat", "-c", "%a", f"/etc/edgefl/identity/{file}").stdout.strip()
        assert mode in ("400", "600", "440", "640")
    held = [path.name for path in kept(fleet.directory / ".edgefl") if path.suffix == ".key"]
    assert sorted(held) == ["issuing.key", "operator.key", "root.key"]
