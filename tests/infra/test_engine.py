"""Which Terraform a site uses, and what is said when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgefl.errors import ExitCode
from edgefl.infra import engine
from edgefl.infra.engine import Engine, choose
from edgefl.infra.failure import EngineMissing


def program(directory: Path, name: str, says: str) -> Path:
    """An executable that answers `version`."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    return tmp_path / "engine.json"


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH holds a terraform and a tofu."""
    program(tmp_path / "bin", "terraform", "Terraform v1.11.4")
    program(tmp_path / "bin", "tofu", "OpenTofu v1.10.6")
    return {"PATH": str(tmp_path / "bin")}


def test_the_users_terraform_is_taken_before_the_embedded_one(pin: Path, path: dict[str, str]) -> None:
    assert choose(pin, environment=path) == Engine("terraform", f"{path['PATH']}/terraform", "1.11.4")


def test_a_site_keeps_the_engine_it_began_with(pin: Path, path: dict[str, str]) -> None:
    first = choose(pin, "tofu", path)
    assert (first.kind, first.version) == ("tofu", "1.10.6")
    assert choose(pin, "auto", path) == first


def test_what_the_environment_names_wins_over_the_site_and_the_pin(pin: Path, path: dict[str, str], tmp_path: Path) -> None:
    choose(pin, "auto", path)
    own = program(tmp_path / "own", "my-terraform", "Terraform v1.14.0-rc1")
    chosen = choose(pin, "tofu", {**path, "EDGEFL_TERRAFORM": str(own)})
    assert chosen == Engine("terraform", str(own), "1.14.0-rc1") == Engine.load(pin)


def test_an_upgraded_engine_is_pinned_in_its_new_version(pin: Path, path: dict[str, str]) -> None:
    choose(pin, "auto", path)
    program(Path(path["PATH"]), "terraform", "Terraform v1.12.0")
    assert choose(pin, "auto", path).version == "1.12.0"


def test_a_pinned_engine_that_is_gone_is_named(pin: Path, path: dict[str, str]) -> None:
    choose(pin, "tofu", path)
    (Path(path["PATH"]) / "tofu").unlink()
    with pytest.raises(EngineMissing, match=r"made with tofu 1\.10\.6 .* is gone") as caught:
        choose(pin, "auto", path)
    assert "EDGEFL_TERRAFORM=embedded" in caught.value.hint


def test_an_engine_that_was_named_and_is_not_there_is_missing(pin: Path) -> None:
    with pytest.raises(EngineMissing, match="there is no tofu") as caught:
        choose(pin, "tofu", {"PATH": "/nowhere"})
    assert caught.value.exit_code is ExitCode.ENGINE_MISSING == 20


def test_without_any_engine_the_error_says_how_to_get_one(pin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise engine.PackageNotFoundError(name)

    monkeypatch.setattr(engine, "version", not_installed)
    with pytest.raises(EngineMissing, match="no embedded one") as caught:
        choose(pin, "auto", {"PATH": "/nowhere"})
    assert "pip install 'edgefl[terraform]'" in caught.value.hint


@pytest.mark.parametrize(("says", "why"), [("Terraform v1.2.9", "needs at least 1.5"), ("cowsay 3", "is no terraform")])
def test_an_executable_that_cannot_be_used_is_refused(pin: Path, tmp_path: Path, says: str, why: str) -> None:
    own = program(tmp_path / "own", "old", says)
    with pytest.raises(EngineMissing, match=why):
        choose(pin, "auto", {"PATH": os.defpath, "EDGEFL_TERRAFORM": str(own)})


def test_a_broken_pin_is_chosen_anew(pin: Path, path: dict[str, str]) -> None:
    pin.write_text("{")
    assert choose(pin, "auto", path).kind == "terraform"
