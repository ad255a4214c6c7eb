"""A root gives way to another, and at no step is there a peer that refuses what another one was given."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.pki.anchors import lists_of
from edgefl.pki.authority import Authority
from edgefl.site.model import Site

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]})


def issued(authority: Authority, role: str = "device") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-01")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return authority.sign_csr(request.public_bytes(serialization.Encoding.PEM), name="edge-01", role=role).chain  # type: ignore[arg-type]


def accepts(directory: Path, trusted: bytes, lists: bytes, chain: bytes) -> bool:
    """What a peer with these anchors and lists makes of a chain; with every list, as the gate asks for it."""
    leaf, *above = x509.load_pem_x509_certificates(chain)
    files = {"trusted.pem": trusted, "lists.pem": lists, "leaf.pem": leaf.public_bytes(serialization.Encoding.PEM)}
    files["above.pem"] = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in above)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    options = ["-CAfile", "trusted.pem", "-untrusted", "above.pem"]
    options += ["-CRLfile", "lists.pem", "-crl_check_all"] if lists else []
    done = subprocess.run(["openssl", "verify", *options, "leaf.pem"], cwd=directory, capture_output=True, check=False)
    return done.returncode == 0


def test_no_peer_refuses_another_at_any_step(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, site=SITE)
    first, first_leaf = authority.bundle(), issued(authority)

    assert authority.prepare()
    both, lists = authority.bundle(), authority.crl()
    assert len(lists_of(lists.decode())) == 4
    assert accepts(tmp_path, both, lists, first_leaf)
    assert accepts(tmp_path, both, lists, issued(authority)), "the older one signs still"
    assert authority.issuing == x509.load_pem_x509_certificates(first)[1]

    authority.succeed()
    authority = Authority.open(tmp_path, site=SITE)
    assert set(x509.load_pem_x509_certificates(authority.bundle())) == set(x509.load_pem_x509_certificates(both))
    second_leaf, lists = issued(authority), authority.crl()
    assert x509.load_pem_x509_certificates(second_leaf)[0].issuer == authority.issuing.subject
    assert accepts(tmp_path, first, b"", second_leaf), "who was started before it trusts the older root alone"
    for leaf in (first_leaf, second_leaf):
        assert accepts(tmp_path, authority.bundle(), lists, leaf)

    authority.finish()
    authority = Authority.open(tmp_path, site=SITE)
    only, lists = authority.bundle(), authority.crl()
    assert len(lists_of(lists.decode())) == 2
    assert accepts(tmp_path, only, lists, second_leaf), "its chain still names the older root, which nobody needs any more"
    assert accepts(tmp_path, only, lists, issued(authority))
    assert accepts(tmp_path, both, b"", issued(authority))
    assert not accepts(tmp_path, only, lists, first_leaf)
    assert authority.is_finishing
    authority.forget()
    assert not authority.is_finishing
    assert len(list((tmp_path / "pki").rglob("*.key"))) == 2, "the older root's are gone"


def test_a_succession_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.open(tmp_path, site=SITE)
    authority.prepare()
    following = x509.load_pem_x509_certificate((tmp_path / "pki" / "next" / "root.crt").read_bytes())
    moved: list[str] = []
    replace = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if self.parent.name == "next" and len(moved) == 2:
            raise OSError("the power failed")
        moved.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(OSError, match="the power failed"):
        authority.succeed()
    monkeypatch.setattr(Path, "replace", replace)
    again = Authority.open(tmp_path, site=SITE)
    assert again.prepare()
    again.succeed()
    assert again.root == following
    assert again.overlaps
    assert accepts(tmp_path, again.bundle(), again.crl(), issued(again))


def test_what_was_revoked_before_stays_so(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, site=SITE)
    leaf = issued(authority)
    authority.revoke(format(x509.load_pem_x509_certificate(leaf).serial_number, "x"), "stolen")
    authority.prepare()
    authority.succeed()
    assert not accepts(tmp_path, authority.bundle(), authority.crl(), leaf)
    assert accepts(tmp_path, authority.bundle(), b"", leaf), "but for the list it would serve"


def test_a_second_succession_needs_the_first_to_be_finished(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, site=SITE)
    authority.prepare()
    authority.succeed()
    assert not authority.prepare()
    authority.finish()
    assert not authority.prepare(), "hosts may trust the first one still"
    authority.forget()
    assert authority.prepare()
