"""Which bundle hosts run, and whether the operator holds them to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.operations import versions
from edgefl.operations.state import bundle_directory
from edgefl.progress import Warned
from edgefl.site.model import Device, Site

MANIFEST = '{"version": 2, "python": "3.11", "deps": {}, "app_hash": "%s", "fab_sha256": "", "files": {}}'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(name="t", devices=[Device(name="d")])
    made._root = tmp_path
    for place in (bundle_directory(made), versions.next_directory(made)):
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(MANIFEST % place.name)
    return made


def named(place: Path) -> str:
    return (place / "manifest.json").read_text().split('"app_hash": "')[1].split('"')[0]


def test_what_hosts_ran_before_is_kept_for_the_way_back_and_forth(site: Site) -> None:
    versions.adopt(site)
    assert named(bundle_directory(site)) == "bundle.next"
    assert named(versions.previous_directory(site)) == "bundle"
    assert not versions.next_directory(site).exists()
    versions.revert(site)
    assert named(bundle_directory(site)) == "bundle"
    versions.revert(site)
    assert named(bundle_directory(site)) == "bundle.next"
    assert sorted(path.name for path in site.state.iterdir()) == ["bundle", "bundle.previous"]


async def test_a_site_that_is_held_builds_nothing_and_says_why(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    async def build(_: Site, into: Path):  # type: ignore[no-untyped-def]
        built.append(into)
        return
        yield

    monkeypatch.setattr("edgefl.fleet.bundle.build", build)
    versions.hold(site, "abc was not well")
    (warned,) = [event async for event in versions.gathered(site)]
    assert isinstance(warned, Warned)
    assert "abc was not well" in warned.what
    assert "edgefl upgrade" in warned.hint
    assert not built

    versions.release(site)
    versions.release(site)
    assert [event async for event in versions.gathered(site)] == []
    assert built == [bundle_directory(site)]


def test_a_record_that_cannot_be_read_holds_nothing(site: Site) -> None:
    versions.hold(site, "x")
    assert versions.held(site) == "x"
    (site.state / "held.json").write_text("{")
    assert versions.held(site) == ""
