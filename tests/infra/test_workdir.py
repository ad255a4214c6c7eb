"""What is written for Terraform, and what it inherits."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.infra import terraform
from edgefl.infra.failure import EngineMissing
from edgefl.infra.workdir import Workdir
from edgefl.site.model import Site


def site(directory: Path) -> Site:
    return Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]}).at(directory)


def test_what_is_inherited_cannot_change_what_terraform_does(tmp_path: Path) -> None:
    given = {"PATH": "/bin", "TF_VAR_devices": "{}", "TF_CLI_ARGS_plan": "-x", "TF_WORKSPACE": "w", "TF_LOG": "debug"}
    environment = Workdir(tmp_path).environment(given)
    assert {key for key in environment if key.startswith("TF_")} == {"TF_LOG", "TF_CLI_CONFIG_FILE", "TF_IN_AUTOMATION"}
    assert environment["PATH"] == "/bin"


def test_a_relative_python_path_means_the_same_in_terraforms_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Workdir(tmp_path).environment({"PYTHONPATH": "lib:"})["PYTHONPATH"].endswith(f":{tmp_path}/lib")


def test_rendering_the_same_site_again_writes_nothing(tmp_path: Path) -> None:
    work = Workdir(tmp_path / "terraform")
    for _ in range(2):
        work.prepare()
        work.render(site(tmp_path))
        written = {path: path.stat().st_mtime_ns for path in work.top.rglob("*") if path.is_file()}
    work.prepare()
    work.render(site(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in work.top.rglob("*") if path.is_file()} == written


def test_a_file_that_a_newer_edgefl_no_longer_ships_goes(tmp_path: Path) -> None:
    work = Workdir(tmp_path / "terraform")
    work.prepare()
    work.render(site(tmp_path))
    (work.root / "modules" / "lab" / "old.tf").write_text("")
    work.render(site(tmp_path))
    assert not (work.root / "modules" / "lab" / "old.tf").exists()


def test_a_module_of_ones_own_may_lie_beside_site_yaml(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text("# hosts")
    own = {"name": "clinic", "infrastructure": {"module": "own", "source": "."}, "devices": [{"name": "edge-01"}]}
    placed = Site.model_validate(own).at(tmp_path)
    work = Workdir(placed.state / "terraform")
    for _ in range(2):
        work.prepare()
        work.render(placed)
    assert [path.name for path in (work.root / "modules" / "own").iterdir()] == ["main.tf"]


async def test_a_lab_without_the_provider_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terraform, "find_spec", lambda name: None)
    monkeypatch.setenv("EDGEFL_TERRAFORM", _terraform(tmp_path))
    with pytest.raises(EngineMissing) as caught:
        await terraform.Terraform(site(tmp_path)).init()
    assert caught.value.hint == "pip install 'edgefl[provider]'"


def _terraform(directory: Path) -> str:
    """An executable that is a terraform as far as `version` goes."""
    path = directory / "terraform.sh"
    path.write_text("#!/bin/sh\necho Terraform v1.11.4\n")
    path.chmod(0o755)
    return str(path)
