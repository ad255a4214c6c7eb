"""Hosts with certificates of a site's real authority, for tests of how they get others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.pki.authority import Authority
from edgefl.pki.renewal import RenewalAuthority
from edgefl.site.model import Site

from .conftest import DEVICES, Service

PEM = serialization.Encoding.PEM


def csr(name: str, key: ec.EllipticCurvePrivateKey, *sans: x509.GeneralName) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM).decode()


def made() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certified(directory: Path, address: str, service: Service) -> Path:
    """The gate's certificate and every device's, by a site's real authority; the coordinator has its renewal authority."""
    site = Site.model_validate({"name": "clinic", "devices": [{"name": name} for name in DEVICES]})
    authority = Authority.open(directory / "state", site=site)
    wanted: list[tuple[str, str, Any, list[str]]] = [("gate", "coordinator", "gate", [address])]
    wanted += [("superlink", "coordinator", "superlink", []), ("operator", "alice@desk", "operator", [])]
    wanted += [(name, name, "device", []) for name in DEVICES]
    for file, name, role, addresses in wanted:
        key = made()
        chain = authority.sign_csr(csr(name, key).encode(), name=name, role=role, addresses=addresses).chain
        (directory / f"{file}.key").write_bytes(private(key))
        (directory / f"{file}.crt").write_bytes(chain)
        (directory / f"{file}.pem").write_bytes(private(key) + chain)
    renewal = service.directory / "renewal"
    renewal.mkdir()
    (service.directory / "identity").mkdir()
    key = made()
    (renewal / "renewal.key").write_bytes(private(key))
    certificate = authority.sign_renewal(csr("coordinator", key).encode(), name="coordinator")
    (renewal / "renewal.crt").write_bytes(certificate)
    authority.keep_renewal(certificate, RenewalAuthority.load(renewal).revocations())
    for place in (directory, service.directory / "identity"):
        (place / "ca.crt").write_bytes(authority.bundle())
        (place / "crl.pem").write_bytes(authority.crl())
    return directory
