"""One demo federation for all end-to-end tests: booted, provisioned and trained once by the command a user would type."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgefl.lab.capsule import Capsule
from edgefl.lab.hosts import Lab
from edgefl.site import load

BARE = "edge-02"
"""The device whose host begins with nothing, so that the whole bundle is pushed to it as to a real one."""


def edgefl(*argv: str, timeout_s: float = 900, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user's script would; `within` is a command that runs another one somewhere else."""
    command = [*within, sys.executable, "-m", "edgefl", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)


def last_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The result of a command that ran with --json."""
    return dict(json.loads(done.stdout.splitlines()[-1]))


def until(condition: Callable[[], object], what: str, deadline_s: float = 120.0) -> None:
    """Wait for a condition; the failure says what was awaited."""
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, f"waited {deadline_s} s for {what}"
        time.sleep(0.5)


@contextmanager
def in_background(*argv: str, within: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """The command line while it runs, in a process group of its own as at a terminal; it is ended when the block is left."""
    process = subprocess.Popen(
        [*within, sys.executable, "-m", "edgefl", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # CI may ignore Ctrl-C, and children inherit that
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=120)


def interrupted(process: subprocess.Popen[str], stage: str, when: Callable[[dict[str, Any]], object] = bool) -> int:
    """Press Ctrl-C as soon as the command says something of this stage; its exit code.

    As at a terminal, all of its processes get the signal. when: which of the things said it waits for.
    """
    assert process.stdout
    assert process.stderr
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        event = json.loads(line)
        if event.get("stage") == stage and when(event):
            break
    else:
        raise AssertionError(f"it never came to {stage}: {''.join(said[-3:])}")
    os.killpg(process.pid, signal.SIGINT)
    last = process.stdout.read().splitlines()[-1]
    complaints = process.stderr.read()
    code = process.wait(timeout=120)
    assert json.loads(last)["next"].startswith("the same command goes on from here: edgefl "), last
    assert "Traceback" not in complaints, complaints
    return code


@dataclass(frozen=True)
class Demo:
    """The demo's site after its run."""

    directory: Path
    said: subprocess.CompletedProcess[str]

    @property
    def result(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / ".edgefl" / "result.json").read_text()))

    @property
    def lab(self) -> Lab:
        site = load(self.directory)
        return Lab(site.state / "lab", site.infrastructure.network)

    def edgefl(self, command: str, *argv: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        return edgefl(command, "--site", str(self.directory), *argv, timeout_s=timeout_s)

    def on(self, host: str, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a host."""
        return self.lab.execute(host, argv, timeout_s=timeout_s)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo") / "site"
    directory.mkdir()
    shipped = (Path(__file__).parents[2] / "sites" / "demo" / "site.yaml").read_text()
    line = f"name: {BARE}, data: data/{BARE}, "
    assert line in shipped
    (directory / "site.yaml").write_text(shipped.replace(line, f"{line}preloaded: false, "))
    mounts = Path("/proc/self/mountinfo").read_text()
    command = ("demo", str(directory), "--json")
    try:
        with in_background(*command) as going:
            cut = interrupted(going, "infrastructure", lambda event: event["subject"])
        assert cut == 130, "it was cut short while its hosts were made"
        said = edgefl(*command, timeout_s=1800)
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
    except BaseException:
        edgefl("down", "--site", str(directory), "--yes")
        raise
    yield Demo(directory, said)
    taken_down(Demo(directory, said), mounts)


def taken_down(demo: Demo, mounts: str) -> None:
    """A `down` that is cut short when the first hosts are gone, then the same command: nothing is left on this machine.

    mounts: those of the machine before anything was made.
    """
    lab = demo.lab.root
    assert traces(demo.directory, lab), "what is looked for below can be seen"
    down = ("down", "--site", str(demo.directory), "--yes", "--json")
    try:
        with in_background(*down) as going:
            assert interrupted(going, "infrastructure", lambda event: event["type"] == "finished" and event["subject"]) == 130
    finally:
        done = edgefl(*down)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert last_object(done)["down"] is True
    assert traces(demo.directory, lab) == []
    assert not lab.exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert (demo.directory / ".edgefl" / "pki").is_dir(), "the operator's authority stays"
    assert edgefl(*down).returncode == 0, "where nothing stands there is nothing to undo"


def traces(directory: Path, lab: Path) -> list[str]:
    """Processes that speak of the site, with what they do and whose children they are, and control groups of its lab."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/edgefl/{Capsule(lab).id}")]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            said = (process / "cmdline").read_text().replace("\0", " ")
            if str(directory) in said:
                parent = (process / "stat").read_text().rpartition(") ")[2].split()[1]
                found.append(f"{process.name}, child of {parent}: {said}")
    return found
