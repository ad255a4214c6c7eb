"""The authority signs what is its own site's, and nothing else."""

from __future__ import annotations

import stat
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgefl.pki.authority import Authority
from edgefl.pki.errors import CsrRefused, PkiError
from edgefl.pki.operator import ensure_operator
from edgefl.pki.register import Entry, Register
from edgefl.site.model import Site

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]})


def request_for(name: str, *sans: x509.GeneralName, curve: ec.EllipticCurve | None = None) -> bytes:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def leaf_of(chain: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain)[0]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path, site=SITE)


def test_a_device_gets_a_client_certificate_with_its_own_names(authority: Authority) -> None:
    issued = authority.sign_csr(request_for("edge-01"), name="edge-01", role="device", addresses=["10.0.0.5"])
    leaf = leaf_of(issued.chain)
    assert leaf.subject.rfc4514_string() == "CN=edge-01,OU=device,O=clinic"
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["edge-01"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.5")]
    assert timedelta(hours=23) < issued.not_after - datetime.now(UTC) <= timedelta(hours=24)


def test_a_signers_certificate_opens_no_connection(authority: Authority, tmp_path: Path) -> None:
    issued = authority.sign_csr(request_for("edge-01"), name="edge-01", role="signer")
    (tmp_path / "leaf.pem").write_bytes(issued.chain)
    (tmp_path / "ca.pem").write_bytes(authority.bundle())
    for purpose, accepted in {"any": True, "sslclient": False, "sslserver": False}.items():
        command = ["openssl", "verify", "-CAfile", "ca.pem", "-purpose", purpose, "leaf.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is accepted, done.stdout + done.stderr


def test_openssl_accepts_the_chain_and_the_revocation_lists(authority: Authority, tmp_path: Path) -> None:
    issued = authority.sign_csr(request_for("edge-01"), name="edge-01", role="device")
    (tmp_path / "leaf.pem").write_bytes(issued.chain)
    (tmp_path / "ca.pem").write_bytes(authority.bundle())

    def verify() -> subprocess.CompletedProcess[str]:
        (tmp_path / "crl.pem").write_bytes(authority.crl())
        command = [
            "openssl",
            "verify",
            "-crl_check_all",
            "-CAfile",
            "ca.pem",
            "-CRLfile",
            "crl.pem",
            "-purpose",
            "sslclient",
            "leaf.pem",
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    before = verify()
    assert before.returncode == 0, before.stderr
    authority.revoke(issued.serial, "stolen")
    after = verify()
    assert after.returncode != 0
    assert "certificate revoked" in after.stderr


@pytest.mark.parametrize(
    ("request_pem", "says"),
    [
        (request_for("edge-02"), "as its subject"),
        (request_for("edge-01", x509.DNSName("coordinator")), "coordinator"),
        (request_for("edge-01", x509.IPAddress(ip_address("10.0.0.9"))), "10.0.0.9"),
        (request_for("edge-01", x509.UniformResourceIdentifier("edgefl://admin")), "edgefl://admin"),
        (request_for("edge-01", curve=ec.SECP384R1()), "secp256r1"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no certificate request"),
    ],
    ids=["another name", "another DNS name", "another address", "a URI", "another curve", "nonsense"],
)
def test_a_request_for_what_is_not_the_devices_own_is_refused(authority: Authority, request_pem: bytes, says: str) -> None:
    with pytest.raises(CsrRefused, match=says):
        authority.sign_csr(request_pem, name="edge-01", role="device", addresses=["10.0.0.5"])
    assert authority.certificates() == []


def test_a_request_whose_signature_was_tampered_with_is_refused(authority: Authority) -> None:
    der = bytearray(x509.load_pem_x509_csr(request_for("edge-01")).public_bytes(serialization.Encoding.DER))
    der[-3] ^= 0xFF
    tampered = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CsrRefused, match="not signed by its own key"):
        authority.sign_csr(tampered, name="edge-01", role="device")


def test_a_key_of_another_kind_is_refused(authority: Authority) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-01")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(ed25519.Ed25519PrivateKey.generate(), None)
    with pytest.raises(CsrRefused, match="ECDSA"):
        authority.sign_csr(request.public_bytes(serialization.Encoding.PEM), name="edge-01", role="device")


def test_private_keys_are_for_the_operator_alone(authority: Authority, tmp_path: Path) -> None:
    for key in (tmp_path / "pki").glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_a_passphrase_encrypts_both_keys_and_is_needed_to_sign(tmp_path: Path) -> None:
    Authority.open(tmp_path, site=SITE, passphrase="correct horse")
    for key in (tmp_path / "pki").glob("*.key"):
        assert b"ENCRYPTED" in key.read_bytes()
    with pytest.raises(PkiError, match="no passphrase was given"):
        Authority.open(tmp_path, site=SITE).sign_csr(request_for("edge-01"), name="edge-01", role="device")
    with pytest.raises(PkiError, match="passphrase is wrong"):
        Authority.open(tmp_path, site=SITE, passphrase="battery").sign_csr(request_for("edge-01"), name="edge-01", role="device")
    opened = Authority.open(tmp_path, site=SITE, passphrase="correct horse")
    assert opened.sign_csr(request_for("edge-01"), name="edge-01", role="device").serial


def test_opening_again_changes_nothing(authority: Authority, tmp_path: Path) -> None:
    before = authority.bundle()
    assert Authority.open(tmp_path, site=SITE).bundle() == before


def _sign(state: Path) -> str:
    return Authority.open(state, site=SITE).sign_csr(request_for("edge-01"), name="edge-01", role="device").serial


@pytest.mark.slow
def test_several_processes_sign_at_once_without_losing_an_entry(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        serials = set(pool.map(_sign, [tmp_path] * 12))
    assert {entry.serial for entry in Authority.open(tmp_path, site=SITE).certificates()} == serials


def test_revoking_a_foreign_serial_is_an_error_and_twice_is_not(authority: Authority) -> None:
    with pytest.raises(PkiError, match="no certificate with serial"):
        authority.revoke("abc", "unknown")
    issued = authority.sign_csr(request_for("edge-01"), name="edge-01", role="device")
    authority.revoke(issued.serial, "stolen")
    authority.revoke(issued.serial, "again")
    assert [entry.reason for entry in authority.certificates()] == ["stolen"]


def test_the_operators_identity_is_made_once_and_follows_a_new_root(tmp_path: Path) -> None:
    site = SITE.model_copy()
    site._root = tmp_path
    first = (ensure_operator(site) / "operator.crt").read_bytes()
    assert (ensure_operator(site) / "operator.crt").read_bytes() == first
    (tmp_path / ".edgefl/pki").rename(tmp_path / ".edgefl/old-pki")
    Authority.open(tmp_path / ".edgefl", site=site)
    renewed = (ensure_operator(site) / "operator.crt").read_bytes()
    assert renewed != first
    assert "OU=operator" in leaf_of(renewed).subject.rfc4514_string()


def test_a_line_cut_off_by_a_crash_is_forgotten_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    register = Register(path)
    entry = Entry("1", "edge-01", "device", "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00")
    register.issued(entry)
    before = len(register.entries())
    with path.open("a") as file:
        file.write('{"issued": {"serial": "2", "sub')
    assert len(register.entries()) == before
    register.issued(replace(entry, serial="3"))
    assert [found.serial for found in register.entries()][-1] == "3"


def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(PkiError, match=r"index\.jsonl:1 is damaged"):
        Register(path).entries()
