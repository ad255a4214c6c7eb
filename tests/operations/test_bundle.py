"""A bundle from elsewhere, looked at before anything is done with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edgefl.errors import ExitCode
from edgefl.fleet import signature
from edgefl.fleet.bundle import Bundle, BundleInvalid
from edgefl.operations import bundle
from edgefl.operations.state import opened
from edgefl.progress import Finished
from edgefl.site.model import Device, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(name="t", devices=[Device(name="d")])
    made._root = tmp_path
    return made


@pytest.fixture
def carried(site: Site, tmp_path: Path) -> Bundle:
    """A bundle as it comes from a USB stick."""
    place = tmp_path / "stick"
    place.mkdir()
    content = {"app.fab": b"task", "sbom.cdx.json": b"{}"}
    for name, data in content.items():
        (place / name).write_bytes(data)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    about = {"version": 2, "python": "3.11", "deps": {"aarch64": {"hash": "d", "wheels": []}}, "app_hash": "a"}
    (place / "manifest.json").write_text(json.dumps({**about, "fab_sha256": files["app.fab"], "files": files}))
    package = Bundle.load(place)
    signature.sign(package, opened(site))
    return package


async def verified(site: Site, package: Bundle) -> Finished:
    last = [event async for event in bundle.verify(site, package.path)][-1]
    assert isinstance(last, Finished)
    return last


async def test_a_whole_and_signed_bundle_says_what_it_is(site: Site, carried: Bundle) -> None:
    last = await verified(site, carried)
    assert "2 files are whole and signed by t's authority" in last.what
    assert last.detail["version"] == carried.version
    assert last.detail["architectures"] == ["aarch64"]


async def test_each_wrong_file_is_named(site: Site, carried: Bundle) -> None:
    (carried.path / "app.fab").write_bytes(b"evil")
    (carried.path / "sbom.cdx.json").unlink()
    with pytest.raises(BundleInvalid, match=r"app\.fab was altered; sbom\.cdx\.json is missing") as invalid:
        await verified(site, carried)
    assert invalid.value.exit_code == ExitCode.BUNDLE_INVALID


async def test_files_that_fit_a_manifest_which_nobody_signed_are_not_enough(site: Site, carried: Bundle) -> None:
    about = json.loads((carried.path / "manifest.json").read_text())
    (carried.path / "app.fab").write_bytes(b"evil")
    about["files"]["app.fab"] = hashlib.sha256(b"evil").hexdigest()
    (carried.path / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(BundleInvalid, match="not signed by this site's authority"):
        await verified(site, carried)


async def test_a_machine_that_only_watches_knows_the_authority_by_its_operators_identity(site: Site, carried: Bundle) -> None:
    (site.state / "operator").mkdir()
    (site.state / "pki" / "root.crt").rename(site.state / "operator" / "ca.crt")
    issuing = site.state / "pki" / "issuing.crt"
    with (site.state / "operator" / "ca.crt").open("ab") as file:
        file.write(issuing.read_bytes())
    issuing.unlink()
    await verified(site, carried)
    (site.state / "operator" / "ca.crt").unlink()
    with pytest.raises(BundleInvalid, match="not signed"):
        await verified(site, carried)


def test_another_content_is_another_version(carried: Bundle) -> None:
    about = json.loads((carried.path / "manifest.json").read_text())
    for change in ({"app_hash": "b"}, {"fab_sha256": "b"}, {"deps": {"aarch64": {"hash": "e", "wheels": []}}}):
        (carried.path / "manifest.json").write_text(json.dumps({**about, **change}))
        assert Bundle.load(carried.path).version != carried.version
