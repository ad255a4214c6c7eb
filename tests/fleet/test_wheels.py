"""Wheels, fetched by real pip from an index of tiny ones: slow where they really are fetched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgefl.errors import ExitCode
from edgefl.fleet import store, wheels
from edgefl.fleet.wheels import BundleUnbuildable, WheelSpec
from edgefl.progress import Finished, Progress, Step
from edgefl.site.model import Runtime, Site

if TYPE_CHECKING:
    from conftest import Index

Specs = Callable[..., WheelSpec]


async def fetch(spec: WheelSpec, place: Path) -> list[Progress]:
    return [event async for event in wheels.fetch(spec, place)]


@pytest.mark.slow
async def test_the_lock_and_torch_are_fetched_once(spec: Specs, tmp_path: Path) -> None:
    events = await fetch(spec(), tmp_path / "wheels")
    stored = store.read(tmp_path / "wheels")
    assert stored
    assert [file.name.split("-")[0] for file in stored.files] == ["flwr", "scipy", "torch"]
    assert sum(isinstance(event, Step) for event in events) == 3
    assert isinstance(events[-1], Finished)
    assert events[-1].detail["bytes"] == sum(file.size for file in stored.files)
    assert await fetch(spec(), tmp_path / "wheels") == []


@pytest.mark.slow
async def test_a_wheel_whose_bytes_are_not_the_locks_is_refused(spec: Specs, index: Index, tmp_path: Path) -> None:
    index.wheel("flwr", "1.41.0", padding=10)
    with pytest.raises(BundleUnbuildable, match=r"(?i)hash") as refused:
        await fetch(spec_without_rebuilding(spec, index), tmp_path / "wheels")
    assert refused.value.exit_code == ExitCode.BUNDLE_INVALID
    assert store.read(tmp_path / "wheels") is None


@pytest.mark.slow
async def test_a_version_that_the_index_lacks_is_named(spec: Specs, tmp_path: Path) -> None:
    wanted = spec()
    wanted.lock.write_text("absent==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(BundleUnbuildable, match="absent"):
        await fetch(wanted, tmp_path / "wheels")


@pytest.mark.slow
async def test_a_gpu_build_of_torch_is_refused_before_it_is_fetched(spec: Specs, index: Index, tmp_path: Path) -> None:
    index.wheel("torch", "2.13.0+cpu").unlink()
    index.wheel(
        "torch", "2.13.0", requires=("numpy", "nvidia-cudnn-cu13==9.1; platform_system == 'Linux'", "cuda-toolkit[cudart]==13")
    )
    with pytest.raises(BundleUnbuildable, match=r"GPU build.*nvidia-cudnn-cu13, cuda-toolkit") as refused:
        await fetch(spec(), tmp_path / "wheels")
    assert "CPU" in refused.value.hint
    assert not list((tmp_path / "wheels.partial").glob("torch*"))


@pytest.mark.parametrize(
    ("machine", "torch", "warned"),
    [
        ("x86_64", "pypi", ["torch"]),
        ("aarch64", "pypi", []),
        ("x86_64", "https://index.example/cpu", []),
    ],
)
def test_the_public_indexs_torch_is_warned_of_without_asking_it(
    index: Index, monkeypatch: pytest.MonkeyPatch, machine: str, torch: str, warned: list[str]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "a"}], "runtime": {"torch": torch}}).at(Path())
    assert [warning.subject for warning in wheels.foreseen(site)] == warned


def test_nothing_is_warned_of_once_the_wheels_are_there(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "a"}]}).at(Path())
    kept = WheelSpec.of(site.runtime, site.root, "x86_64").store
    store.seal(store.begin(kept), kept)
    assert list(wheels.foreseen(site)) == []


@pytest.mark.slow
async def test_a_torch_that_is_too_large_is_refused(spec: Specs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "TORCH_MAX_BYTES", 10)
    with pytest.raises(BundleUnbuildable, match="too much to push"):
        await fetch(spec(), tmp_path / "wheels")


@pytest.mark.slow
async def test_a_torch_given_as_a_file_is_taken_as_it_is(
    spec: Specs, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "TORCH_MAX_BYTES", 10)
    own = index.wheel("torch", "2.13.0+mine", requires=("nvidia-cudnn-cu13",))
    await fetch(spec(str(own)), tmp_path / "wheels")
    assert (tmp_path / "wheels" / own.name).read_bytes() == own.read_bytes()


def test_a_torch_file_that_is_not_there_is_named(spec: Specs) -> None:
    with pytest.raises(BundleUnbuildable, match=r"/absent\.whl"):
        _ = spec("/absent.whl").place


def test_the_place_follows_whatever_decides_the_wheels(spec: Specs, index: Index) -> None:
    places = {spec().place, spec("https://index.example/cpu").place, spec(str(index.wheel("torch", "1"))).place}
    assert len(places) == 3
    before = spec().place
    spec().lock.write_text("flwr==1.42.0\n")
    assert spec().place != before


def test_only_hosts_of_homomorphic_sums_get_what_those_need() -> None:
    plain, masked, homomorphic = (WheelSpec.of(Runtime(), Path(), "x86_64", mode) for mode in ("none", "masked", "homomorphic"))
    assert plain.place == masked.place != homomorphic.place
    assert homomorphic.more is not None
    assert "tenseal==" in homomorphic.more.read_text()
    assert homomorphic.more.read_text().count("--hash=sha256:") == 2, "for both architectures"


def test_a_python_without_a_lock_is_refused() -> None:
    with pytest.raises(BundleUnbuildable, match=r"3\.13"):
        WheelSpec.of(Runtime(python="3.13"), Path(), "x86_64")


def test_every_line_of_the_shipped_lock_is_pinned_by_hash() -> None:
    lines = WheelSpec.of(Runtime(), Path(), "x86_64").lock.read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 50
    assert all("==" in pin and "--hash=sha256:" in pin for pin in pins)
    names = {pin.split("==")[0] for pin in pins}
    assert {"flwr", "opacus", "fastapi", "uvicorn", "safetensors", "zstandard", "prometheus-client"} <= names
    assert not {"torch", "uv"} & names


@pytest.mark.slow
async def test_without_pip_the_error_says_how_to_get_it(spec: Specs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleUnbuildable, match="pip is not there") as error:
        await fetch(spec(), tmp_path / "wheels")
    assert sys.executable in error.value.hint


def spec_without_rebuilding(spec: Specs, index: Index) -> WheelSpec:
    wanted = spec()
    index.wheel("flwr", "1.41.0", padding=10)
    return wanted
