"""Every target that installs looks at the torch that it would install before it does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet.conftest import Index

ROOT = Path(__file__).parents[2]
GPU = ("numpy", "nvidia-cudnn-cu13==9.1; platform_system == 'Linux'", "cuda-toolkit==13")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make` makes first on a fresh machine: a venv with pip alone."""
    made = tmp_path_factory.mktemp("fresh") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    return made


@pytest.fixture
def checkout(tmp_path: Path, venv: Path) -> Path:
    """What make reads of a checkout, with nothing installed."""
    top = tmp_path / "checkout"
    top.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, top)
    for name in ("tools", "edgefl"):
        (top / name).symlink_to(ROOT / name)
    (top / ".venv").symlink_to(venv)
    return top


def made(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=checkout, capture_output=True, text=True, check=False)


def looked(venv: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "tools/torch-source", venv], cwd=ROOT, capture_output=True, text=True, check=False)


def targets() -> list[str]:
    """What the Makefile offers to type, but for what installs nothing; without root the demo ends before that, too."""
    nothing = {"help", "clean", *(["demo"] if os.getuid() else [])}
    return sorted(set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) - nothing)


def test_a_cpu_build_is_taken(index: Index, venv: Path) -> None:
    index.wheel("torch", "2.13.0+cpu", requires=("filelock", "sympy"))
    done = looked(venv)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_gpu_build_is_refused_with_the_way_out(index: Index, venv: Path) -> None:
    index.wheel("torch", "2.13.0", requires=GPU)
    refused = looked(venv)
    assert refused.returncode == 1
    assert "GPU build: nvidia-cudnn-cu13, cuda-toolkit" in refused.stderr
    assert "make demo TORCH_INDEX=URL" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("target", targets())
def test_no_target_fetches_a_gpu_build(index: Index, checkout: Path, target: str) -> None:
    index.wheel("torch", "2.13.0", requires=GPU)
    refused = made(checkout, target)
    assert refused.returncode == 2
    assert "is a GPU build" in refused.stderr
    assert "pip install" not in refused.stdout, "make says each command that it runs"
    assert not list((checkout / ".venv").glob("lib/python3*/site-packages/torch*"))


def test_every_target_that_installs_is_tried() -> None:
    assert {"test", "unit", "e2e", "install", "develop"} <= set(targets())


def test_the_index_named_once_is_the_one_of_every_later_pip(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    command = ["make", "-s", "-f", ROOT / "Makefile", "torch-index", "TORCH_INDEX=https://cpu.example/whl"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / ".venv" / "pip.conf").read_text() == "[global]\nextra-index-url = https://cpu.example/whl\n"
