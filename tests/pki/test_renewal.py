"""The coordinator's authority gives hosts successors of their own certificates, and could give nobody anything else."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgefl.pki import forms
from edgefl.pki.anchors import lists_of
from edgefl.pki.authority import Authority
from edgefl.pki.errors import CsrRefused, PkiError
from edgefl.pki.profiles import USAGES
from edgefl.pki.register import Entry
from edgefl.pki.renewal import RenewalAuthority
from edgefl.site.model import Site

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}, {"name": "edge-02"}]})
PEM = serialization.Encoding.PEM
ADDRESS = "10.77.0.11"


def made() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(name: str, *sans: x509.GeneralName, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key or made(), hashes.SHA256()).public_bytes(PEM)


@dataclass
class Coordinator:
    """A site's authority, and the one that its coordinator has."""

    directory: Path
    authority: Authority
    renewal: RenewalAuthority

    def verifies(self, leaf: x509.Certificate, *, purpose: str = "sslclient") -> bool:
        """What OpenSSL, and so every gate and device, makes of a chain: with every list, as haproxy asks for it."""
        files = {"root.pem": self.authority.root.public_bytes(PEM), "crl.pem": self.authority.crl()}
        files |= {"above.pem": self.renewal.certificate.public_bytes(PEM), "leaf.pem": leaf.public_bytes(PEM)}
        for name, content in files.items():
            (self.directory / name).write_bytes(content)
        command = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "above.pem", "-CRLfile", "crl.pem", "-crl_check_all"]
        done = subprocess.run([*command, "-purpose", purpose, "leaf.pem"], cwd=self.directory, capture_output=True, check=False)
        return done.returncode == 0


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    authority = Authority.open(tmp_path, site=SITE)
    place = tmp_path / "renewal"
    place.mkdir()
    key = made()
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (place / "renewal.key").write_bytes(private)
    (place / "renewal.crt").write_bytes(authority.sign_renewal(csr("coordinator", key=key), name="coordinator"))
    (place / "ca.crt").write_bytes(authority.bundle())
    renewal = RenewalAuthority.load(place, place / "ca.crt")
    authority.keep_renewal((place / "renewal.crt").read_bytes(), renewal.revocations())
    return Coordinator(tmp_path, authority, renewal)


def enrolled(coordinator: Coordinator, name: str = "edge-01") -> x509.Certificate:
    chain = coordinator.authority.sign_csr(csr(name), name=name, role="device", addresses=[ADDRESS]).chain
    return x509.load_pem_x509_certificates(chain)[0]


def test_a_renewed_certificate_is_the_old_one_for_another_key(coordinator: Coordinator) -> None:
    current = enrolled(coordinator)
    renewed = coordinator.renewal.renew(current, csr("edge-01"), used=())
    leaf, above = x509.load_pem_x509_certificates(renewed.chain)
    assert above == coordinator.renewal.certificate
    assert leaf.subject == current.subject
    assert forms.alternatives(leaf) == forms.alternatives(current)
    assert leaf.public_key() != current.public_key()
    life = current.not_valid_after_utc - current.not_valid_before_utc
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == life
    assert coordinator.verifies(leaf)
    again = coordinator.renewal.renew(leaf, csr("edge-01"), used=())
    assert coordinator.verifies(again.certificate), "and so for ever"


@pytest.mark.parametrize(
    ("name", "sans"),
    [
        ("edge-02", []),
        ("edge-01", [x509.DNSName("edge-02")]),
        ("edge-01", [x509.IPAddress(ip_address("10.77.0.12"))]),
        ("edge-01", [x509.RFC822Name("edge-01@clinic")]),
    ],
)
def test_a_request_for_more_than_ones_own_is_refused(coordinator: Coordinator, name: str, sans: list[x509.GeneralName]) -> None:
    with pytest.raises(CsrRefused):
        coordinator.renewal.renew(enrolled(coordinator), csr(name, *sans), used=())


def test_a_key_is_certified_once(coordinator: Coordinator) -> None:
    current, key = enrolled(coordinator), made()
    renewed = coordinator.renewal.renew(current, csr("edge-01", key=key), used=())
    with pytest.raises(CsrRefused, match="certified before"):
        coordinator.renewal.renew(current, csr("edge-01", key=key), used={renewed.key})
    with pytest.raises(CsrRefused, match="certified before"):
        coordinator.renewal.renew(renewed.certificate, csr("edge-01", key=key), used=())


def test_nobody_else_is_renewed(coordinator: Coordinator, tmp_path: Path) -> None:
    signer = coordinator.authority.sign_csr(csr("edge-01"), name="edge-01", role="signer").chain
    operator = coordinator.authority.sign_csr(csr("alice"), name="alice", role="operator").chain
    other = Authority.open(tmp_path / "other", site=SITE).sign_csr(csr("edge-01"), name="edge-01", role="device").chain
    for chain, name in ((signer, "edge-01"), (operator, "alice"), (other, "edge-01")):
        with pytest.raises(CsrRefused):
            coordinator.renewal.renew(x509.load_pem_x509_certificate(chain), csr(name), used=())


def test_what_has_ended_stays_ended(coordinator: Coordinator) -> None:
    later = datetime.now(UTC) + timedelta(hours=25)
    with pytest.raises(CsrRefused, match="does not serve now"):
        coordinator.renewal.renew(enrolled(coordinator), csr("edge-01"), used=(), now=later)


def test_an_authority_that_is_about_to_end_signs_nothing(coordinator: Coordinator) -> None:
    end = coordinator.renewal.certificate.not_valid_after_utc
    leaf = signed(coordinator, ends=end)
    with pytest.raises(PkiError, match="about to end"):
        coordinator.renewal.renew(leaf, csr("edge-01"), used=(), now=end - timedelta(minutes=1))


def signed(
    coordinator: Coordinator,
    name: str = "edge-01",
    role: str = "device",
    usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    *,
    sans: Sequence[str] = ("edge-01",),
    ends: datetime | None = None,
) -> x509.Certificate:
    """What whoever stole the coordinator's key would sign with it."""
    now = datetime.now(UTC)
    named, names = forms.subject(name, role, "clinic"), [forms.general(each) for each in sans]
    key, above = made().public_key(), coordinator.renewal.certificate
    ends = ends or now + timedelta(hours=1)
    return forms.leaf(key, named, usages, names, above, begins=now - timedelta(minutes=1), ends=ends).sign(
        coordinator.renewal.key, hashes.SHA384()
    )


def test_its_key_makes_no_operator_no_signer_and_no_stranger(coordinator: Coordinator) -> None:
    assert coordinator.verifies(signed(coordinator)), "what the refusals below are measured by"
    assert not coordinator.verifies(signed(coordinator, "alice@desk", "operator", sans=()))
    assert not coordinator.verifies(signed(coordinator, "alice@desk", "operator"))
    assert not coordinator.verifies(signed(coordinator, "prometheus", "scraper"))
    assert not coordinator.verifies(signed(coordinator, sans=["edge-09"]))
    assert not coordinator.verifies(signed(coordinator, role="signer", usages=[USAGES["document_signing"]]), purpose="any")


def test_what_it_signed_can_be_revoked_by_the_operator_who_has_heard_of_it(coordinator: Coordinator) -> None:
    leaf = coordinator.renewal.renew(enrolled(coordinator), csr("edge-01"), used=()).certificate
    serial = format(leaf.serial_number, "x")
    with pytest.raises(PkiError, match="no certificate with serial"):
        coordinator.authority.revoke(serial, "stolen")
    begins, ends = leaf.not_valid_before_utc.isoformat(), leaf.not_valid_after_utc.isoformat()
    heard = Entry(serial, "edge-01", "device", begins, ends, issuer="renewal")
    assert coordinator.authority.learn([heard]) == 1
    assert coordinator.authority.learn([heard]) == 0
    coordinator.authority.revoke(serial, "stolen")
    assert leaf.serial_number in {one.serial_number for crl in lists_of(coordinator.authority.crl().decode()) for one in crl}


def test_a_successor_that_is_heard_of_after_the_revocation_is_revoked_with_it(coordinator: Coordinator) -> None:
    current = enrolled(coordinator)
    leaf = coordinator.renewal.renew(current, csr("edge-01"), used=()).certificate
    coordinator.authority.revoke(format(current.serial_number, "x"), "stolen")
    begins, ends = leaf.not_valid_before_utc.isoformat(), leaf.not_valid_after_utc.isoformat()
    coordinator.authority.learn([Entry(format(leaf.serial_number, "x"), "edge-01", "device", begins, ends, issuer="renewal")])
    assert coordinator.authority.certificates()[-1].reason == "stolen"


def test_a_renewal_authority_that_is_revoked_opens_nothing_any_more(coordinator: Coordinator) -> None:
    leaf = coordinator.renewal.renew(enrolled(coordinator), csr("edge-01"), used=()).certificate
    assert coordinator.verifies(leaf)
    assert coordinator.renewal.certificate in coordinator.authority.issuers()
    coordinator.authority.revoke(format(coordinator.renewal.certificate.serial_number, "x"), "the coordinator's disk was stolen")
    assert not coordinator.verifies(leaf)
    assert coordinator.authority.issuers() == [coordinator.authority.issuing]


def test_the_operator_keeps_no_list_that_is_not_the_authoritys_own(coordinator: Coordinator) -> None:
    certificate = coordinator.renewal.certificate
    foreign = forms.revocations(certificate).sign(made(), hashes.SHA384()).public_bytes(PEM)
    with pytest.raises(PkiError):
        coordinator.authority.keep_renewal(certificate.public_bytes(PEM), foreign)
