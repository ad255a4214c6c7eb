"""The bundle as a whole, of tiny wheels."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgefl import layout
from edgefl.errors import ExitCode
from edgefl.fleet import bundle, debs, store
from edgefl.fleet.bundle import Bundle, BundleInvalid
from edgefl.fleet.wheels import BundleUnbuildable, WheelSpec
from edgefl.progress import Finished, Progress, Step, Warned
from edgefl.site.model import Device, Site

if TYPE_CHECKING:
    from conftest import Index


@pytest.fixture
def site(spec: Callable[..., WheelSpec], index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A site whose wheels an earlier build of this machine has fetched."""
    monkeypatch.setattr(WheelSpec, "of", lambda *_: spec())
    place = layout.cache() / "wheels" / spec().place
    partial = store.begin(place)
    for wheel in index.folder.iterdir():
        shutil.copy(wheel, partial)
    store.seal(partial, place)
    monkeypatch.setattr(debs, "is_possible", lambda: False)
    made = Site(name="t", devices=[Device(name="d")])
    made._root = tmp_path
    return made


async def build(site: Site, into: Path) -> list[Progress]:
    return [event async for event in bundle.build(site, into)]


async def test_a_bundle_holds_everything_and_verifies(site: Site, tmp_path: Path) -> None:
    events = await build(site, tmp_path / "b")
    made = Bundle.load(tmp_path / "b")
    made.verify()
    assert sorted(made.files) == [
        "app.fab",
        "app/edgefl.tar.gz",
        "wheels/flwr-1.41.0-py3-none-any.whl",
        "wheels/scipy-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "wheels/torch-2.13.0+cpu-py3-none-any.whl",
    ]
    assert made.fab_sha256 == made.files["app.fab"]
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.changed
    assert last.detail["deps_hash"] == made.deps_hash


async def test_a_machine_without_debians_packages_says_so(site: Site, tmp_path: Path) -> None:
    (warning,) = [event for event in await build(site, tmp_path / "b") if isinstance(event, Warned)]
    assert "haproxy" in warning.hint
    assert Bundle.load(tmp_path / "b").debs == ()


@pytest.mark.slow
async def test_the_second_build_changes_nothing_and_another_site_shares_the_wheels(site: Site, tmp_path: Path) -> None:
    await build(site, tmp_path / "b")
    before = (tmp_path / "b/manifest.json").stat().st_ino
    (*_, again) = await build(site, tmp_path / "b")
    assert isinstance(again, Finished)
    assert not again.changed
    assert (tmp_path / "b/manifest.json").stat().st_ino == before
    await build(site, tmp_path / "other/b")
    wheel = Bundle.load(tmp_path / "b").wheels[0].name
    assert (tmp_path / "b/wheels" / wheel).stat().st_ino == (tmp_path / "other/b/wheels" / wheel).stat().st_ino


async def test_each_corrupt_missing_and_unknown_file_is_named(site: Site, tmp_path: Path) -> None:
    await build(site, tmp_path / "b")
    (tmp_path / "b/app.fab").write_bytes(b"other")
    (tmp_path / "b/app/edgefl.tar.gz").unlink()
    (tmp_path / "b/wheels/evil.whl").write_bytes(b"")
    with pytest.raises(BundleInvalid) as invalid:
        Bundle.load(tmp_path / "b").verify()
    for said in ("app.fab was altered", "app/edgefl.tar.gz is missing", "wheels/evil.whl is not in the manifest"):
        assert said in invalid.value.what
    assert invalid.value.exit_code == ExitCode.BUNDLE_INVALID


@pytest.mark.slow
async def test_building_again_heals_it_even_where_the_shared_wheel_was_hit(site: Site, tmp_path: Path) -> None:
    await build(site, tmp_path / "b")
    (tmp_path / "b/app.fab").write_bytes(b"other")
    Bundle.load(tmp_path / "b").wheels[0].write_bytes(b"the very inode of the cache")
    await build(site, tmp_path / "b")
    Bundle.load(tmp_path / "b").verify()


@pytest.mark.slow
async def test_a_failed_build_leaves_the_old_bundle_alone(site: Site, tmp_path: Path, spec: Callable[..., WheelSpec]) -> None:
    await build(site, tmp_path / "b")
    before = (tmp_path / "b/manifest.json").read_bytes()
    spec().lock.write_text("absent==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(BundleUnbuildable):
        await build(site, tmp_path / "b")
    assert (tmp_path / "b/manifest.json").read_bytes() == before
    assert sorted(path.name for path in here(tmp_path)) == ["b", "cache", "index", "lock.txt"]


@pytest.mark.slow
async def test_a_cancelled_build_goes_on_with_the_next_call(site: Site, tmp_path: Path) -> None:
    shutil.rmtree(layout.cache())
    fetching = asyncio.Event()

    async def gather() -> None:
        async for event in bundle.build(site, tmp_path / "b"):
            if isinstance(event, Step):
                fetching.set()

    task = asyncio.create_task(gather())
    await asyncio.wait_for(fetching.wait(), 300)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "b").exists()
    await build(site, tmp_path / "b")
    Bundle.load(tmp_path / "b").verify()


async def test_two_builds_at_once_both_succeed(site: Site, tmp_path: Path) -> None:
    await asyncio.gather(build(site, tmp_path / "one/b"), build(site, tmp_path / "two/b"))
    assert Bundle.load(tmp_path / "one/b").files == Bundle.load(tmp_path / "two/b").files


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": 1}'])
def test_a_manifest_that_cannot_be_read_is_said_to_be_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BundleInvalid, match=r"manifest\.json"):
        Bundle.load(tmp_path)


def test_where_there_is_no_bundle_the_error_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid) as missing:
        Bundle.load(tmp_path)
    assert "edgefl up" in missing.value.hint


def here(folder: Path) -> list[Path]:
    return list(folder.iterdir())
