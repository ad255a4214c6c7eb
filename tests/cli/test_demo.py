"""`make demo` where it cannot be, and the last words of `edgefl demo` where it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edgefl.cli.main import run
from edgefl.errors import ExitCode
from edgefl.monitor.state import FederationState
from edgefl.operations.summary import Stage, Summary
from edgefl.progress import Finished, Progress
from tests.console.conftest import ATTACKER, story

TOP = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def checkout() -> Iterator[Path]:
    """What make reads of a checkout, and somebody without rights may write to."""
    with tempfile.TemporaryDirectory(prefix="edgefl-checkout-") as directory:
        place = Path(directory)
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(TOP / name, place)
        shutil.copytree(TOP / "tools", place / "tools")
        if os.getuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        yield place


def test_without_root_make_demo_says_what_needs_it_and_what_works_without_and_makes_nothing(checkout: Path) -> None:
    user = NOBODY if os.getuid() == 0 else None
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS"}
    }  # of a make around this
    done = subprocess.run(
        ["make", "demo"], cwd=checkout, env=environment, capture_output=True, text=True, check=False, user=user, group=user
    )
    assert done.returncode != 0
    assert "Error 13" in done.stderr, "what make was told; it ends with 2 itself, whatever failed"
    said = done.stderr.splitlines()
    assert said[0].startswith("✖ the lab needs root: it boots Debian hosts")
    assert said[1].startswith("  without root: make install, then `module: static`")
    assert said[2] == "  next: sudo make demo"
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_demo_ends_with_its_picture_and_in_json_with_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    state = FederationState().apply_all(story(5, 5))
    summary = Summary((Stage("run", 80.5),), state, (ATTACKER,), 0.25, "/site/4.safetensors", "coordinator:journal.db")

    async def demo(directory: Path) -> AsyncIterator[Progress]:
        assert directory == Path("site")
        yield Finished("demo", "", "complete", detail={"summary": summary})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgefl.lab.machine.demand", lambda: None)
    monkeypatch.setattr("edgefl.operations.demo.demo", demo)
    assert run(["demo", "site", *flags]) == ExitCode.OK
    printed = capsys.readouterr().out
    if flags:
        said = json.loads(printed.splitlines()[-1])
        assert said == {**json.loads(json.dumps(summary.result())), "model": summary.model, "journal": summary.journal}
        return
    for promised in ("Where the time went", "Training", "Devices", f"⚑ {ATTACKER}", summary.model, "console --site site"):
        assert promised in printed
