"""The Flower app, read by Flower's own code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edgefl.errors import EdgeflError
from edgefl.fleet import fab
from edgefl.site.model import Device, Site, Task


def site(root: Path, module: str = "edgefl.federation.tasks.images") -> Site:
    made = Site(name="t", devices=[Device(name="d")], task=Task(module=module))
    made._root = root
    return made


def test_flower_accepts_installs_and_names_it(tmp_path: Path) -> None:
    from flwr.cli.install import install_from_fab
    from flwr.common.config import get_fab_config, get_metadata_from_config
    from flwr.common.constant import FAB_MAX_SIZE

    (tmp_path / "task.py").write_text("x = 1\n")
    packed = fab.pack(site(tmp_path, "./task.py"))
    config = get_fab_config(packed.content)
    assert config["tool"]["flwr"]["app"]["components"]["clientapp"] == "edgefl.federation.client:app"
    assert get_metadata_from_config(config)[0] == "edgefl/edgefl"
    installed = install_from_fab(packed.content, install_dir=tmp_path / "apps", skip_prompt=True)
    assert (installed / "task.py").read_text() == "x = 1\n"
    assert installed.name.endswith(packed.sha256[:8])
    assert fab.MAX_BYTES == FAB_MAX_SIZE


def test_a_run_may_override_what_the_app_names_and_nothing_else(tmp_path: Path) -> None:
    from flwr.common.config import fuse_dicts, get_fab_config

    defaults = get_fab_config(fab.pack(site(tmp_path)).content)["tool"]["flwr"]["app"]["config"]
    assert defaults == dict(fab.RUN_CONFIG)
    assert fuse_dicts(defaults, {"rounds": 3})["rounds"] == 3
    with pytest.raises(ValueError, match="not present"):
        fuse_dicts(defaults, {"deadline_s": 3.0})


def test_flowers_own_builder_packs_the_same_files_with_the_same_hashes(tmp_path: Path) -> None:
    from flwr.cli.build import build_fab_from_files

    ours = unpacked(fab.pack(site(tmp_path)).content)
    theirs = unpacked(build_fab_from_files({"pyproject.toml": ours["pyproject.toml"]})[0])
    assert ours.keys() == theirs.keys()
    assert ours[".info/CONTENT"].count(b",") == theirs[".info/CONTENT"].count(b",")


def test_the_same_content_gives_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    import os

    task = tmp_path / "task.py"
    task.write_text("x = 1\n")
    first = fab.pack(site(tmp_path, "task.py"))
    os.utime(task, (1, 1))
    assert fab.pack(site(tmp_path, "./task.py")) == first
    assert first.sha256 == hashlib.sha256(first.content).hexdigest()
    task.write_text("x = 2\n")
    assert fab.pack(site(tmp_path, "task.py")).sha256 != first.sha256


def test_a_package_travels_whole_and_a_shipped_task_not_at_all(tmp_path: Path) -> None:
    package = tmp_path / "clinic"
    (package / "inner").mkdir(parents=True)
    for path in ("__init__.py", "inner/__init__.py", "inner/net.py", "notes.txt"):
        (package / path).write_text("")
    assert sorted(fab.task_files("clinic.inner.net", tmp_path)) == [
        "clinic/__init__.py",
        "clinic/inner/__init__.py",
        "clinic/inner/net.py",
    ]
    assert fab.task_files("edgefl.federation.tasks.images", tmp_path) == {}


@pytest.mark.parametrize("module", ["./absent.py", "absent_package.task"])
def test_a_task_that_is_not_there_is_named(tmp_path: Path, module: str) -> None:
    with pytest.raises(EdgeflError, match="absent"):
        fab.pack(site(tmp_path, module))


def test_a_task_that_is_too_large_for_flower_is_refused(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("#" * (fab.MAX_BYTES + 1))
    with pytest.raises(EdgeflError, match="Flower takes"):
        fab.pack(site(tmp_path, "task.py"))


def unpacked(content: bytes) -> dict[str, bytes]:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
