"""`make demo` looks at the torch that it would install before it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet.conftest import Index

ROOT = Path(__file__).parents[2]
VENV = Path(sys.executable).parents[1]

pytestmark = pytest.mark.slow


def looked() -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "tools/torch-source", VENV], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_cpu_build_is_taken(index: Index) -> None:
    index.wheel("torch", "2.13.0+cpu", requires=("filelock", "sympy"))
    done = looked()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_gpu_build_is_refused_with_the_way_out(index: Index) -> None:
    index.wheel("torch", "2.13.0", requires=("numpy", "nvidia-cudnn-cu13==9.1; platform_system == 'Linux'", "cuda-toolkit==13"))
    refused = looked()
    assert refused.returncode == 1
    assert "GPU build: nvidia-cudnn-cu13, cuda-toolkit" in refused.stderr
    assert "make demo TORCH_INDEX=URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_index_named_once_is_the_one_of_every_later_pip(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    command = ["make", "-s", "-f", ROOT / "Makefile", "torch-index", "TORCH_INDEX=https://cpu.example/whl"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / ".venv" / "pip.conf").read_text() == "[global]\nextra-index-url = https://cpu.example/whl\n"
