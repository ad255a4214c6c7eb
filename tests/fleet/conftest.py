"""An index of tiny wheels, and pip told to know no other."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgefl.fleet.wheels import WheelSpec


@dataclass(frozen=True)
class Index:
    """A folder of wheels that real pip downloads from."""

    folder: Path

    def wheel(self, name: str, version: str, tag: str = "py3-none-any", requires: tuple[str, ...] = (), padding: int = 0) -> Path:
        path = self.folder / f"{name}-{version}-{tag}.whl"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
            f"Requires-Dist: {r}\n" for r in requires
        )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
            archive.writestr(f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
            archive.writestr(f"{name}.py", "#" * padding)
        return path

    def lock(self, *wheels: Path) -> Path:
        path = self.folder.parent / "lock.txt"
        lines = (f"{w.name.split('-')[0]}=={w.name.split('-')[1]} --hash=sha256:{_sha256(w)}" for w in wheels)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("EDGEFL_CACHE", str(tmp_path / "cache"))
    return Index(tmp_path / "index")


@pytest.fixture
def spec(index: Index) -> Callable[..., WheelSpec]:
    """Two wheels in the lock, and torch from the index unless another source is given."""
    first, second = index.wheel("flwr", "1.41.0"), index.wheel("scipy", "1.0", "cp311-cp311-manylinux_2_28_x86_64")
    index.wheel("torch", "2.13.0+cpu")
    lock = index.lock(first, second)
    return lambda torch="pypi": WheelSpec(lock, torch, "2.13.0", "3.11", "x86_64")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
