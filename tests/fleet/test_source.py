"""edgefl's own code as a tarball."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from edgefl.fleet import source
from edgefl.share import share


def package(root: Path) -> Path:
    (root / "room" / "__pycache__").mkdir(parents=True)
    (root / "_share").mkdir()
    (root / "console").mkdir()
    for path in (
        "__init__.py",
        "__main__.py",
        "console/app.py",
        "room/code.py",
        "room/table.yaml",
        "room/__pycache__/code.pyc",
        "_share/site.yml",
        ".hidden",
    ):
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


@pytest.mark.slow
def test_all_that_hosts_run_is_in_it(tmp_path: Path) -> None:
    """Every program that a role's unit or script starts, the task's code that an attacker of the lab runs, and what proves it."""
    with tarfile.open(fileobj=io.BytesIO(source.pack().archive)) as archive:
        archive.extractall(tmp_path, filter="data")
    roles = share("playbooks") / "roles"
    started = {found for file in roles.rglob("*.j2") for found in re.findall(r"-m (edgefl[\w.]+)", file.read_text())}
    assert len(started) >= 6
    code = f"import edgefl; assert {str(tmp_path)!r} in edgefl.__file__; import {', '.join(sorted(started))}, edgefl.lab.attacks"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
