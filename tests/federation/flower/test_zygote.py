"""The warm executor, with real processes: a small program is the SuperExec, and what a task does is told by its token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edgefl.lab.process import Process

TORCH = ("torch", "torch._dynamo")
CLIENT, IMAGES = "edgefl.federation.client", "edgefl.federation.tasks.images"

PROGRAM = """
import json, os, signal, sys, time
from dataclasses import dataclass
from edgefl.federation.flower import patches, zygote

def task(role, runtime, doing, authority):
    if doing == "sleep":
        time.sleep(60)
    if doing == "fail":
        raise RuntimeError("this task fails")
    if doing == "exit":
        sys.exit(7)
    told = [os.getpid(), os.getppid(), "decimal" in sys.modules, float(os.environ[zygote.LAUNCHED_VARIABLE])]
    os.write(OUT, (json.dumps(told) + "\\n").encode())

@dataclass
class Spec:
    token: str
    task_type: object = patches.task_type("device")
    runtime_api_address: str = "127.0.0.1:1"
    root_certificates_path: str | None = None

OUT = os.dup(1)
patches.import_app = lambda role: None
patches.run_app = task
executor = zygote.WarmExecutor(zygote.Warmth("device", ("decimal",), limit_s=LIMIT), concurrency=1)
print("warm", executor.pid, flush=True)
for token in sys.argv[1:]:
    began = time.monotonic()
    executor.get_eligible_capacity({Spec.task_type})
    print("waited", time.monotonic() - began, flush=True)
    executor.launch(Spec(token))
executor.get_eligible_capacity({Spec.task_type})
print("done", executor.get_eligible_capacity({"flwr-agentapp"}), executor.is_alive(), flush=True)
time.sleep(float(os.environ.get("LINGER", "0")))
"""


def run(*tokens: str, limit_s: int = 0) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("LIMIT", str(limit_s))
    return subprocess.run([sys.executable, "-c", program, *tokens], capture_output=True, text=True, timeout=120, check=False)


def wait_until(what: str, holds: Callable[[], bool], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"waited {limit_s} s until {what}"
        time.sleep(0.05)


@pytest.mark.slow
def test_each_task_has_a_process_of_its_own_that_finds_everything_imported() -> None:
    lines = run("a", "b").stdout.splitlines()
    told = [line.strip("[]").split(", ") for line in lines if line.startswith("[")]
    zygote = next(line for line in lines if line.startswith("warm")).split()[1]
    assert [parent for _, parent, _, _ in told] == [zygote, zygote]
    assert len({pid for pid, _, _, _ in told}) == 2
    assert [warm for _, _, warm, _ in told] == ["true", "true"]


@pytest.mark.slow
def test_a_host_executes_its_own_kind_of_task_alone() -> None:
    assert "done (set(), set()) True" in run().stdout


@pytest.mark.slow
def test_a_task_that_fails_ends_alone_and_says_why() -> None:
    result = run("fail", "exit", "a")
    assert "RuntimeError: this task fails" in result.stderr
    assert "ended with 7" in result.stderr
    assert "done" in result.stdout
    assert result.returncode == 0


@pytest.mark.slow
def test_a_task_that_runs_too_long_is_killed_and_the_next_one_starts() -> None:
    result = run("sleep", "a", limit_s=3)
    assert f"was ended by signal {int(signal.SIGALRM)}" in result.stderr
    waited = [float(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("waited")]
    assert waited[1] > 0.5, "the second task waited for the first to end: one at a time"
    assert "done" in result.stdout


@pytest.mark.slow
def test_a_module_that_does_not_import_ends_the_executor_with_the_reason() -> None:
    program = PROGRAM.replace("LIMIT", "0").replace('("decimal",)', '("no_such_module",)')
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "No module named 'no_such_module'" in result.stderr
    assert "ZygoteDied: the zygote" in result.stderr


@pytest.mark.slow
def test_zygote_and_tasks_die_with_the_superexec_however_it_dies() -> None:
    program = PROGRAM.replace("LIMIT", "0")
    with subprocess.Popen([sys.executable, "-c", program, "sleep"], stdout=subprocess.PIPE, text=True) as superexec:
        assert superexec.stdout is not None
        zygote = int(superexec.stdout.readline().split()[1])
        children = Path(f"/proc/{zygote}/task/{zygote}/children")
        wait_until("the task runs", lambda: bool(children.read_text().split()))
        task = int(children.read_text())
        os.kill(superexec.pid, signal.SIGKILL)
        wait_until("both are gone", lambda: Process.of(zygote) is None and Process.of(task) is None)


@pytest.mark.slow
def test_a_zygote_that_is_killed_ends_the_superexec() -> None:
    program = PROGRAM.replace("LIMIT", "0")
    with subprocess.Popen(
        [sys.executable, "-c", program, "sleep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as superexec:
        assert superexec.stdout is not None
        assert superexec.stderr is not None
        zygote = int(superexec.stdout.readline().split()[1])
        os.kill(zygote, signal.SIGKILL)
        assert superexec.wait(60) != 0
        with suppress(ProcessLookupError):
            os.killpg(superexec.pid, signal.SIGKILL)  # its task, if it had begun
        assert "ZygoteDied" in superexec.stderr.read()


@pytest.mark.parametrize(
    ("mode", "role", "wanted", "expected"),
    [
        ("dp-sgd", "device", "", (*TORCH, CLIENT, "opacus", "edgefl.federation.privacy.dpsgd", IMAGES)),
        ("none", "device", "", (*TORCH, CLIENT, IMAGES)),
        ("dp-sgd", "server", "", (*TORCH, "edgefl.federation.server", IMAGES)),
        ("none", "device", " json,json , no_such.module", (*TORCH, CLIENT, IMAGES, "json")),
    ],
)
def test_the_zygote_imports_what_its_role_needs(mode: str, role: str, wanted: str, expected: tuple[str, ...]) -> None:
    from edgefl.federation.flower.superexec import modules
    from edgefl.federation.hostconfig import HostConfig

    host = HostConfig.model_validate({
        "site": "demo", "name": "edge-1", "role": "device", "coordinator": {"name": "c", "address": "10.0.0.1"},
        "privacy": {"mode": mode},
    })  # fmt: skip
    assert modules(role, host, wanted) == expected
