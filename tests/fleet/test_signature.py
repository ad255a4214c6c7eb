"""Who answers for a bundle, to the operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.errors import ExitCode
from edgefl.fleet import signature
from edgefl.fleet.bundle import Bundle
from edgefl.fleet.signature import BundleUnsigned
from edgefl.pki.authority import Authority
from edgefl.site.model import Device, Site


@pytest.fixture
def package(tmp_path: Path) -> Bundle:
    (tmp_path / "manifest.json").write_text(
        '{"version": 2, "python": "3.11", "deps": {}, "app_hash": "", "fab_sha256": "", "files": {}}'
    )
    return Bundle.load(tmp_path)


def authority(place: Path) -> Authority:
    return Authority.open(place, site=Site(name="t", devices=[Device(name="d")]))


def test_a_signature_stands_until_the_manifest_changes(package: Bundle, tmp_path: Path) -> None:
    own = authority(tmp_path / "state")
    assert signature.sign(package, own)
    assert not signature.sign(package, own)
    signature.check(package, [own.root, own.issuing])

    (package.path / "manifest.json").write_text('{"version": 2, "files": {"app.fab": "another"}}')
    with pytest.raises(BundleUnsigned, match=r"manifest\.json was altered since") as altered:
        signature.check(package, [own.root, own.issuing])
    assert altered.value.exit_code == ExitCode.BUNDLE_INVALID
    assert signature.sign(package, own)


def test_another_sites_authority_answers_for_nothing_here(package: Bundle, tmp_path: Path) -> None:
    own, other = authority(tmp_path / "own"), authority(tmp_path / "other")
    signature.sign(package, other)
    with pytest.raises(BundleUnsigned, match="not signed by this site's authority"):
        signature.check(package, [own.root, own.issuing])
    assert signature.sign(package, own), "what another signed is signed anew"


def test_without_a_signature_it_is_said_where_one_is_made(package: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleUnsigned, match="is not signed") as unsigned:
        signature.check(package, [authority(tmp_path / "own").issuing])
    assert "edgefl bundle build" in unsigned.value.hint


def test_nothing_that_could_be_a_certificate_is_endorsed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        authority(tmp_path).endorse(b"\x30\x82")
