"""What each role's certificate says and allows: read back from the certificate, not from the file that asked for it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgefl.pki.authority import Authority
from edgefl.pki.errors import CsrRefused
from edgefl.pki.profiles import Role
from edgefl.site.model import Site

from .test_authority import leaf_of, request_for

WATCHED = {"prometheus": True, "host": {"name": "watch"}}
SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}], "observability": WATCHED})
ADDRESS = "192.0.2.7"
CLIENT, SERVER = [ExtendedKeyUsageOID.CLIENT_AUTH], [ExtendedKeyUsageOID.SERVER_AUTH]
ROLES: dict[Role, tuple[str, list[x509.ObjectIdentifier], list[str], list[str]]] = {
    # role: whom it is for, what for, DNS names, addresses
    "device": ("edge-01", CLIENT, ["edge-01"], [ADDRESS]),
    "gate": ("coordinator", SERVER, ["coordinator"], [ADDRESS]),
    "superlink": ("coordinator", SERVER, ["localhost"], ["127.0.0.1", "::1"]),
    "operator": ("alice@desk", CLIENT, [], []),
    "scraper": ("prometheus", CLIENT, [], []),
    "exporter": ("edge-01", SERVER, ["edge-01"], [ADDRESS]),
    "metrics": ("coordinator", SERVER, ["metrics.edgefl"], []),
    "signer": ("edge-01", [x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")], [], []),  # document signing, RFC 9336
}


def test_every_role_is_tested_here() -> None:
    assert set(ROLES) == set(get_args(Role))


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_certificate_allows_its_own_use_and_no_other(tmp_path: Path, role: Role) -> None:
    name, usages, names, addresses = ROLES[role]
    authority = Authority.open(tmp_path, site=SITE)
    leaf = leaf_of(authority.sign_csr(request_for(name), name=name, role=role, addresses=[ADDRESS]).chain)

    assert leaf.subject.rfc4514_string() == f"CN={name},OU={role},O=clinic"
    allowed = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (list(allowed.value), allowed.critical) == (usages, True)
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.critical) == (False, True)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    assert alternatives(leaf) == (names, [ip_address(address) for address in addresses])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("curve", "is_right"), [(ec.SECP256R1(), True), (ec.SECP384R1(), False), (ec.SECP521R1(), False)])
def test_a_roles_key_lies_on_its_own_curve(tmp_path: Path, role: Role, curve: ec.EllipticCurve, is_right: bool) -> None:
    authority, name = Authority.open(tmp_path, site=SITE), ROLES[role][0]
    request = request_for(name, curve=curve)
    if is_right:
        key = leaf_of(authority.sign_csr(request, name=name, role=role).chain).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == curve.name
    else:
        with pytest.raises(CsrRefused, match="not an ECDSA key on secp256r1"):
            authority.sign_csr(request, name=name, role=role)


def test_the_authoritys_own_certificates_sign_and_do_nothing_else(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, site=SITE)
    for certificate, depth in ((authority.root, 1), (authority.issuing, 0)):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp384r1"
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (constraints.ca, constraints.path_length) == (True, depth)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def alternatives(leaf: x509.Certificate) -> tuple[list[str], list[object]]:
    """The DNS names and addresses that a certificate carries."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    return names.get_values_for_type(x509.DNSName), list(names.get_values_for_type(x509.IPAddress))
