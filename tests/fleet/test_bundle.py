"""The bundle as a whole, of tiny wheels."""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgefl import layout
from edgefl.errors import ExitCode
from edgefl.fleet import bundle, debs, store
from edgefl.fleet.bundle import Bundle, BundleInvalid
from edgefl.fleet.wheels import BundleUnbuildable, WheelSpec
from edgefl.progress import Finished, Progress, Step, Warned
from edgefl.site.model import Device, Infrastructure, Isolation, Observability, Runtime, Site

if TYPE_CHECKING:
    from conftest import Index


@pytest.fixture
def site(spec: Callable[..., WheelSpec], index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A site whose wheels an earlier build of this machine has fetched."""
    monkeypatch.setattr(WheelSpec, "of", lambda _runtime, _root, architecture, _mode: replace(spec(), architecture=architecture))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
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
        "sbom.cdx.json",
        "wheels/flwr-1.41.0-py3-none-any.whl",
        "wheels/scipy-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "wheels/torch-2.13.0+cpu-py3-none-any.whl",
    ]
    assert made.fab_sha256 == made.files["app.fab"]
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.changed
    assert last.detail["deps"] == made.deps_hashes == {"x86_64": made.deps["x86_64"]["hash"]}


async def test_a_machine_without_debians_packages_says_so(site: Site, tmp_path: Path) -> None:
    (warning,) = [event for event in await build(site, tmp_path / "b") if isinstance(event, Warned)]
    assert "haproxy" in warning.hint
    assert Bundle.load(tmp_path / "b").debs == ()


@pytest.mark.parametrize(
    ("asked", "further"),
    [
        ({"observability": Observability(prometheus=True)}, {"watch": debs.WATCHING}),
        ({"observability": Observability(devices=True)}, {"exporter": debs.EXPORTING}),
        ({"isolation": Isolation(tunnel="wireguard")}, {"tunnel": debs.TUNNEL}),
    ],
)
async def test_what_watches_and_what_tunnels_is_carried_where_the_site_asks_for_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], further: dict[str, tuple[str, ...]]
) -> None:
    ((folder, packages),) = further.items()
    for names in (debs.WANTED, packages):
        place = layout.cache() / "debs" / debs.place(names)
        partial = store.begin(place)
        (partial / f"{names[0]}_1_all.deb").write_bytes(b"deb")
        store.seal(partial, place)
    monkeypatch.setattr(debs, "is_possible", lambda: True)
    await build(site, tmp_path / "b")
    assert [path.name for path in Bundle.load(tmp_path / "b").debs] == ["haproxy_1_all.deb"]
    assert not (tmp_path / "b" / folder).exists()
    asking = site.model_copy(update=asked)
    await build(asking.at(tmp_path), tmp_path / "b")
    made = Bundle.load(tmp_path / "b")
    made.verify()
    assert f"{folder}/{packages[0]}_1_all.deb" in made.files


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


def mixed(site: Site, *architectures: str) -> Site:
    """The same site on hosts of its owner's, of these architectures."""
    runtime = Runtime.model_validate({"architectures": list(architectures)})
    made = site.model_copy(update={"infrastructure": Infrastructure(module="static"), "runtime": runtime})
    made._root = site.root
    return made


@pytest.mark.slow
async def test_a_mixed_fleets_bundle_has_the_wheels_of_each_architecture_and_what_they_share_once(
    site: Site, index: Index, tmp_path: Path
) -> None:
    arm = index.wheel("scipy", "1.0", "cp311-cp311-manylinux_2_28_aarch64")
    lock = tmp_path / "lock.txt"
    lock.write_text(lock.read_text().strip() + f" --hash=sha256:{store.sha256_of(arm)}\n")
    await build(mixed(site, "x86_64", "aarch64"), tmp_path / "b")
    made = Bundle.load(tmp_path / "b")
    made.verify()
    wheels = {name: {wheel.rpartition("_")[2] for wheel in made.deps[name]["wheels"]} for name in made.deps}
    shared = {"flwr-1.41.0-py3-none-any.whl", "torch-2.13.0+cpu-py3-none-any.whl"}
    assert wheels == {"x86_64": {*shared, "64.whl"}, "aarch64": {*shared, "aarch64.whl"}}
    assert len(made.wheels) == 4
    assert made.deps_hashes["x86_64"] != made.deps_hashes["aarch64"]


@pytest.mark.slow
async def test_every_wheel_that_an_architecture_lacks_is_named_at_once(site: Site, index: Index, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    other = index.wheel("numpy", "2.0", "cp311-cp311-manylinux_2_28_aarch64")
    lock.write_text(lock.read_text() + f"numpy==2.0 --hash=sha256:{store.sha256_of(other)}\n")
    with pytest.raises(BundleUnbuildable, match=r"no wheel for armv7l and Python 3\.11 of scipy==1\.0, numpy==2\.0") as refused:
        await build(mixed(site, "armv7l"), tmp_path / "b")
    assert "x86_64 and aarch64" in refused.value.hint


def test_a_labs_hosts_are_this_machine_whatever_the_site_says(site: Site) -> None:
    assert bundle.architectures(site) == ["x86_64"]
    assert bundle.architectures(mixed(site, "aarch64", "armv7l", "aarch64")) == ["aarch64", "armv7l"]


def test_a_bundle_of_another_time_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"version": 1}')
    with pytest.raises(BundleInvalid, match="of version 1, this edgefl reads 2"):
        Bundle.load(tmp_path)
