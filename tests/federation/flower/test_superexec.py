"""What a SuperExec prepares before it forks anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.federation.flower import superexec
from edgefl.federation.flower.superexec import AppRefused, available_cores, limit_threads

OWN = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({}, OWN),
        ({"a/b": "max 100000"}, OWN),
        ({"a/b": "50000 100000"}, 1),
        ({"a": "100000 100000", "a/b": "max 100000"}, 1),
        ({"a": "99900000 100000", "a/b": "150000 100000"}, min(OWN, 2)),
        ({"a/b": "nonsense"}, OWN),
    ],
)
def test_cores_are_those_that_affinity_and_every_quota_above_allow(tmp_path: Path, quotas: dict[str, str], cores: int) -> None:
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    for group, quota in quotas.items():
        directory = tmp_path / "sys" / group
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cpu.max").write_text(quota + "\n")
    assert available_cores(tmp_path / "sys", tmp_path / "cgroup") == cores


def test_without_control_groups_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path, tmp_path / "none") == OWN


def test_what_the_operator_set_himself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for patience in ("OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"):
        monkeypatch.delenv(patience, raising=False)
    limit_threads(2)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["OPENBLAS_THREAD_TIMEOUT"]) == ("PASSIVE", "4")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT")


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        (("b" * 64,), "executes only the app bbbb"),
        (("b" * 64, "c" * 64), "the app bbbbbbbbbbbbbbbb… and cccccccccccccccc…"),
        ((), "names no app to execute"),
    ],
)
def test_a_refused_app_is_named_with_what_the_host_executes(expected: tuple[str, ...], says: str) -> None:
    assert says in str(AppRefused("a" * 64, expected))


def test_a_host_without_its_secret_ends_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "host.json").write_text(
        '{"site": "demo", "name": "edge-1", "role": "device", "coordinator": {"name": "c", "address": "10.0.0.1"}}'
    )
    assert superexec.main(["--role", "device", "--config", str(tmp_path), "--state", str(tmp_path)]) != 0
    assert "superexec.secret is missing" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "status"), [(0, 0), (None, 0), (3, 3), ("why", 1)])
def test_when_flower_ends_it_main_returns_so_that_the_process_can_end_at_once(
    code: int | str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object, **__: object) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(superexec, "run", ended)
    assert superexec.main(["--role", "device"]) == status


FORBIDDEN = """
import ctypes
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    raise SystemExit(77)
from edgefl.federation.flower.superexec import avoid_generated_code
avoid_generated_code()
import torch
layer = torch.nn.Conv2d(1, 4, 3)
layer(torch.ones(2, 1, 8, 8)).sum().backward()
print("trained", torch.backends.mkldnn.enabled)
"""


@pytest.mark.slow
def test_a_unit_that_forbids_generated_code_still_trains_convolutions() -> None:
    result = subprocess.run([sys.executable, "-c", FORBIDDEN], capture_output=True, text=True, timeout=300, check=False)
    if result.returncode == 77:
        pytest.skip("this kernel does not know PR_SET_MDWE (Linux 6.3)")
    assert result.stdout == "trained False\n", result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("role", ["device", "server"])
def test_a_superexec_does_not_carry_flowers_commands(role: str) -> None:
    """They cost a small host a second of CPU and 34 MB in each of two processes."""
    program = f"""
import sys
from edgefl.federation.flower import patches
patches.import_superexec()
patches.import_app({role!r})
print(*{"flwr.supercore.cli", "flwr.supernode.cli", "flwr.superlink.cli"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "\n"
