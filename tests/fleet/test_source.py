"""edgefl's own code as a tarball."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from edgefl.fleet import source


def package(root: Path) -> Path:
    (root / "room" / "__pycache__").mkdir(parents=True)
    (root / "_share").mkdir()
    for path in ("__init__.py", "room/code.py", "room/table.yaml", "room/__pycache__/code.pyc", "_share/site.yml", ".hidden"):
        (root / path).write_text(path)
    return root


def test_it_holds_the_code_and_nothing_else(tmp_path: Path) -> None:
    packed = source.pack(package(tmp_path / "edgefl"))
    with tarfile.open(fileobj=io.BytesIO(packed.archive)) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == ["edgefl/__init__.py", "edgefl/room/code.py", "edgefl/room/table.yaml"]
    assert {(member.uid, member.gid, member.mtime, member.mode) for member in members} == {(0, 0, 0, 0o644)}


def test_the_same_code_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = package(tmp_path / "a"), package(tmp_path / "b")
    os.utime(second / "__init__.py", (1, 1))
    (second / "__init__.py").chmod(0o600)
    assert source.pack(first) == source.pack(second)
    (second / "room/code.py").write_text("other")
    assert source.pack(first).sha256 != source.pack(second).sha256


def test_the_installed_package_is_the_default() -> None:
    with tarfile.open(fileobj=io.BytesIO(source.pack().archive)) as archive:
        names = archive.getnames()
    assert "edgefl/fleet/lock/host-py311.txt" in names
    assert not [name for name in names if name.endswith(".pyc")]
