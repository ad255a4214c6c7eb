"""The offline ceremony, from the device's request to its certificate; and whom an operator can give a token."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.cli import main
from edgefl.events.schema import OperatorAction
from edgefl.fleet.hosts import HostUnknown
from edgefl.infra.inventory import Host, Inventory
from edgefl.operations.deeds import pending
from edgefl.operations.enrol import open_token, read, sign
from edgefl.operations.state import inventory_file
from edgefl.pki.authority import Authority
from edgefl.pki.errors import CsrRefused
from edgefl.site import load
from edgefl.site.model import Site

Captured = pytest.CaptureFixture[str]
SITE = """\
name: clinic
infrastructure: {module: static}
coordinator: {address: 127.0.0.1}
devices: [{name: edge-01, address: 127.0.0.2}, {name: edge-02, address: 127.0.0.3}]
isolation: {operator_addresses: [127.0.0.4]}
"""


@dataclass(frozen=True)
class Device:
    """A device's configuration, and the program that somebody starts on it."""

    config: Path

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.config / "identity" / "device.crt").read_bytes())

    def enrol(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgefl.pki.enrol", "--config", str(self.config), "--account", getpass.getuser(), *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Provisioned, on hosts of which none answers: nothing leads from the operator to them but what is carried."""
    (tmp_path / "site.yaml").write_text(SITE)
    site = load(tmp_path)
    Authority.open(site.state, site=site)
    known = {"port": 9, "user": "root", "host_key": "ssh-ed25519 AAAA"}
    hosts = [Host("coordinator", "coordinator", "127.0.0.1", **known)]  # type: ignore[arg-type]
    hosts += [Host(device.name, "device", str(device.address), **known) for device in site.devices]  # type: ignore[arg-type]
    Inventory(tuple(hosts)).save(inventory_file(site))
    return site


@pytest.fixture
def device(tmp_path: Path, site: Site) -> Device:
    config = tmp_path / "device"
    (config / "identity").mkdir(parents=True)
    said = {"name": "edge-01", "site": "clinic", "role": "device", "coordinator": {"address": "127.0.0.1"}}
    (config / "host.json").write_text(json.dumps(said))
    (config / "identity" / "ca.crt").write_bytes(Authority.open(site.state, site=site).bundle())
    return Device(config)


def signs(site: Site, file: Path, *argv: str) -> int:
    return main.run(["enrol", "sign", str(file), "--site", str(site.root), "--yes", *argv])


def carried(tmp_path: Path, name: str, *more: x509.GeneralName, curve: ec.EllipticCurve | None = None) -> Path:
    """A request that a device did not make as it should."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if more:
        builder = builder.add_extension(x509.SubjectAlternativeName(more), critical=False)
    pem = builder.sign(ec.generate_private_key(curve or ec.SECP256R1()), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    path = tmp_path / "carried.csr"
    path.write_bytes(pem)
    return path


def noted(site: Site) -> list[str]:
    """What was refused, as the audit log will have it."""
    bodies = [body for _, body in pending(site) if isinstance(body, OperatorAction)]
    return [str(body.detail["failed"]) for body in bodies if "failed" in body.detail]


def test_a_request_is_carried_out_and_the_certificate_back(site: Site, device: Device, tmp_path: Path, capsys: Captured) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    asked = device.enrol("request", str(stick / "edge-01.csr"))
    assert asked.returncode == 0, asked.stderr
    assert b"PRIVATE" not in (stick / "edge-01.csr").read_bytes()
    assert signs(site, stick / "edge-01.csr", "--json") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[-1]["key_sha256"] in asked.stdout, "both show the key, so that people can compare it"
    assert [one["type"] for one in said[:-1]] == ["finished", "warned"], "a coordinator that is not reached is told later"

    done = device.enrol("install", str(stick / "edge-01.crt"))
    assert done.returncode == 0, done.stderr
    names = device.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("edge-01"), x509.IPAddress(ip_address("127.0.0.2"))]
    assert device.enrol("install", str(stick / "edge-01.crt")).returncode == 0, "again, it changes nothing"
    [entry] = [one for one in Authority.open(site.state, site=site).certificates() if one.subject == "edge-01"]
    assert (entry.role, entry.serial) == ("device", format(device.certificate.serial_number, "x"))


def test_the_same_request_gets_the_same_certificate(site: Site, device: Device, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "edge-01.csr"
    assert device.enrol("request", str(file)).returncode == 0
    assert signs(site, file, "--out", str(tmp_path / "nowhere" / "x.crt")) == 2, "signed, without a place"
    assert signs(site, file) == 0
    first = (tmp_path / "edge-01.crt").read_bytes()
    assert signs(site, file, "--out", str(tmp_path / "again.crt")) == 0
    assert (tmp_path / "again.crt").read_bytes() == first
    authority = Authority.open(site.state, site=site)
    [entry] = [one for one in authority.certificates() if one.subject == "edge-01"]
    authority.revoke(entry.serial, "left the site")
    assert signs(site, file) == 33
    assert "was certified before" in capsys.readouterr().err
    assert "was certified before" in noted(site)[-1]
    assert device.enrol("request", str(file), "--new-key").returncode == 0
    assert signs(site, file) == 0


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("edge-02", x509.DNSName("edge-01")), "edge-01"),
        (("edge-02", x509.IPAddress(ip_address("127.0.0.2"))), "127.0.0.2"),
        (("edge-02", x509.DNSName("localhost")), "localhost"),
        (("coordinator",), "is the coordinator"),
        (("edge-09",), "there is no host edge-09"),
    ],
    ids=["a foreign name", "a foreign address", "the SuperLink's name", "the coordinator", "a stranger"],
)
def test_a_request_for_what_is_not_its_own_is_refused_and_noted(
    asked: tuple[Any, ...], why: str, site: Site, tmp_path: Path, capsys: Captured
) -> None:
    before = len(Authority.open(site.state, site=site).certificates())
    assert signs(site, carried(tmp_path, *asked)) in {2, 33}
    assert why in capsys.readouterr().err
    assert why in noted(site)[-1]
    assert len(Authority.open(site.state, site=site).certificates()) == before
    assert not (tmp_path / "carried.crt").exists()


def test_a_key_of_another_kind_is_refused(site: Site, tmp_path: Path) -> None:
    assert signs(site, carried(tmp_path, "edge-02", curve=ec.SECP384R1())) == 33
    assert "secp256r1" in noted(site)[-1]


def test_what_is_no_request_is_said(site: Site, tmp_path: Path, capsys: Captured) -> None:
    for content in (b"", b"no request", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"):
        (tmp_path / "x.csr").write_bytes(content)
        assert signs(site, tmp_path / "x.csr") == 2
    altered = carried(tmp_path, "edge-01")
    lines = altered.read_text().splitlines()
    lines[-2] = lines[-2][:-8] + ("A" * 4 if not lines[-2].endswith("AAAA====") else "B" * 4) + lines[-2][-4:]
    altered.write_text("\n".join(lines) + "\n")
    assert signs(site, altered) == 2, "its signature does not hold"
    assert signs(site, tmp_path / "none.csr") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_certificate_of_another_device_or_another_site_is_not_installed(site: Site, device: Device, tmp_path: Path) -> None:
    assert device.enrol("request", str(tmp_path / "edge-01.csr")).returncode == 0
    elsewhere = Authority.open(tmp_path / "elsewhere", site=site)
    chain = elsewhere.sign_csr((tmp_path / "edge-01.csr").read_bytes(), name="edge-01", role="device").chain
    (tmp_path / "foreign.crt").write_bytes(chain)
    foreign = device.enrol("install", str(tmp_path / "foreign.crt"))
    assert (foreign.returncode, "not of this site" in foreign.stderr) == (33, True)
    assert signs(site, carried(tmp_path, "edge-02")) == 0
    other = device.enrol("install", str(tmp_path / "carried.crt"))
    assert (other.returncode, "not of the key" in other.stderr) == (33, True)
    assert not (device.config / "identity" / "device.crt").exists()


async def test_a_device_in_quarantine_gets_neither_a_token_nor_a_signature(site: Site, device: Device, tmp_path: Path) -> None:
    file = tmp_path / "edge-01.csr"
    assert device.enrol("request", str(file)).returncode == 0
    authority = Authority.open(site.state, site=site)
    csr = carried(tmp_path, "edge-01").read_bytes()
    authority.revoke(authority.sign_csr(csr, name="edge-01", role="device", addresses=["127.0.0.2"]).serial, "stolen")
    with pytest.raises(CsrRefused, match="edge-01 is in quarantine: stolen") as refused:
        await open_token(site, "edge-01", life=timedelta(hours=1))
    assert refused.value.hint == "edgefl release edge-01 --why TEXT"
    with pytest.raises(CsrRefused, match="edge-01 is in quarantine: stolen"):
        _ = [event async for event in sign(site, read(file), tmp_path / "edge-01.crt")]
    assert "in quarantine" in noted(site)[-1]
    assert not (tmp_path / "edge-01.crt").exists()
    for name in ("edge-1", "coordinator"):
        with pytest.raises(HostUnknown):
            await open_token(site, name, life=timedelta(hours=1))


def test_signing_asks_first(site: Site, device: Device, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "edge-01.csr"
    assert device.enrol("request", str(file)).returncode == 0
    assert main.run(["enrol", "sign", str(file), "--site", str(site.root)]) == 2
    assert "the same command with --yes" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main.run(["enrol", "token", "edge-01", "--hours", "25"])
