"""How the end-to-end tests drive the command line, and the small federation that most of them share."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgefl.fleet import bundle
from edgefl.lab.capsule import Capsule
from edgefl.lab.hosts import Lab
from edgefl.lab.image import image
from edgefl.lab.preload import preload
from edgefl.site import load
from edgefl.site.model import Site


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


def kept(state: Path) -> Iterator[Path]:
    """The operator's own files in a site's state: not the lab's disks, which are hosts that live."""
    for place, directories, names in os.walk(state):
        if Path(place) == state / "lab":
            directories.remove("hosts")
        yield from (Path(place) / name for name in names)


SITE = """\
name: fleet
infrastructure: {module: lab}
devices:
  - {name: edge-01, data: data/edge-01, limits: {cpu: 1.0, memory_mb: 1536}}
  - {name: edge-02, data: data/edge-02, limits: {cpu: 1.0, memory_mb: 1536}}
  - {name: edge-03, data: data/edge-03, limits: {cpu: 1.0, memory_mb: 1280}}
  - {name: edge-04, data: data/edge-04, limits: {cpu: 1.0, memory_mb: 1280}}
task: {module: edgefl.federation.tasks.images}
run: {rounds: 4, quorum: 0.7, deadline_s: 60}
privacy: {epsilon_limit: 200.0, epsilon_per_run: 4.0, delta: 0.00001}
aggregation: {rule: guard, byzantine: 0.3}
upgrade: {rounds: 1, loss_margin: 9, time_margin: 9}
"""
"""Few devices with few images, so that rounds are short; budgets for all the runs of the tests, each of which is charged. No
version is taken back for how long rounds of a few seconds take, or for a loss under much noise."""
DEVICES = ["edge-01", "edge-02", "edge-03", "edge-04"]
life = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "life.py")))
"""What is measured of a fleet's life, `benchmarks/life.py`."""


@dataclass(frozen=True)
class Fleet:
    """A lab site of a coordinator and devices, `edge-01` and so on. A test leaves it provisioned and without a run."""

    directory: Path

    @property
    def lab(self) -> Lab:
        site = load(self.directory)
        return Lab(site.state / "lab", site.infrastructure.network)

    def edgefl(self, command: str, *argv: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        return edgefl(command, "--site", str(self.directory), *argv, timeout_s=timeout_s)

    def on(self, host: str, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a host."""
        return self.lab.execute(host, argv, timeout_s=timeout_s)

    def listeners(self, host: str) -> set[str]:
        """Every port of a host at which somebody listens, e.g. `tcp 127.0.0.1:9094`."""
        found = (line.split() for line in self.on(host, "ss", "-Hltun").stdout.splitlines())
        return {f"{protocol} {where}" for protocol, _, _, _, where, *_ in found}

    def watchers(self, host: str) -> list[str]:
        """The names of what watches among the processes of a host, as the kernel cuts them."""
        return self.on(host, "pgrep", "prometheus|alertmanager|node_exporter", "--list-name").stdout.split()[1::2]

    @contextmanager
    def training(self) -> Iterator[None]:
        """The middle of a run, which is stopped when the block ends."""
        with life.Fleet(self.directory).training():
            yield

    @contextmanager
    def rounds(self) -> Iterator[list[dict[str, Any]]]:
        """The rounds from the one that goes when the block begins to the first that begins after it; there when it has ended."""
        with life.Fleet(self.directory).rounds() as seen:
            yield seen

    def device(self, name: str) -> dict[str, Any]:
        """A device, as the monitor has it."""
        return last_object(self.edgefl("devices", name, "--json"))

    def happened(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the journal's events of a kind, with their rounds and runs."""
        asked = "import json,sys; from edgefl.events.journal import Journal; from edgefl import layout\n"
        asked += f"print(json.dumps([r for r in Journal(layout.JOURNAL).records(kind={kind!r})]))"
        done = self.on("coordinator", "env", "PYTHONPATH=/opt/edgefl/current", "/opt/edgefl/venv/bin/python", "-c", asked)
        assert done.returncode == 0, done.stderr
        return [{**record["body"], "round": record["round"], "run": record["run"]} for record in json.loads(done.stdout)]

    def deeds(self, device: str) -> list[str]:
        """What operators did to a device so far, but for looking at it."""
        done = [action["action"] for action in self.happened("operator_action") if action["subject"] == device]
        return [action for action in done if action != "verify"]

    def round(self) -> int:
        """The last round that the monitor knows of in the current run; 0 before the first."""
        return int(last_object(self.edgefl("status", "--json"))["round"])

    def await_round(self, number: int, deadline_s: float = 120) -> None:
        """Wait until the run has come to this round."""
        until(lambda: self.round() >= number, f"round {number}", deadline_s)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory: Path = tmp_path_factory.mktemp("fleet") / "site"
    make = [sys.executable, "-m", "edgefl.lab.data", "--task", "images", "--devices", "4", "--records", "600"]
    subprocess.run([*make, "--out", str(directory / "data")], check=True, capture_output=True)
    (directory / "site.yaml").write_text(SITE)
    try:
        said = edgefl("up", "--site", str(directory), "--json", timeout_s=1200)
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
        yield Fleet(directory)
    finally:
        gone = edgefl("down", "--site", str(directory), "--yes", "--json")
    assert gone.returncode == 0, gone.stdout[-3000:] + gone.stderr


@dataclass(frozen=True)
class Adopted:
    """Hosts of a lab that no site made, and the directory of a site that adopts them by address."""

    directory: Path
    lab: Lab

    @property
    def network(self) -> list[str]:
        """Runs a command on a machine of the hosts' network."""
        holder = Capsule(self.lab.root).process
        assert holder is not None
        return ["nsenter", f"--target={holder.pid}", "--net", "--"]

    def edgefl(self, command: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """The command line there."""
        return edgefl(command, "--site", str(self.directory), *argv, "--json", within=self.network)


@contextmanager
def bare_hosts(here: Path, number: int, later: str = "") -> Iterator[tuple[Path, Lab, list[dict[str, Any]]]]:
    """A directory for a site, and so many hosts that know nothing of it; what a bundle brings lies in their layer already.

    later: what the site will say besides; its packages are fetched now, since nothing can be from the hosts' network.
    """

    async def built(site: Site, place: Path) -> None:
        async for _ in bundle.build(site, place):
            pass

    directory, lab = here / "site", Lab(here / "lab")
    directory.mkdir()
    try:
        for place, more in {here / "bundle": "", **({here / "later": later} if later else {})}.items():
            (directory / "site.yaml").write_text(f"name: clinic\ndevices: [{{name: ward-a}}]\n{more}")
            asyncio.run(built(load(directory), place))
        lab.use_layer(preload(image(), here / "bundle"))
        up = edgefl("lab", "--dir", str(lab.root), "up", str(number), "--memory", "1536", "--json")
        assert up.returncode == 0, up.stdout[-2000:] + up.stderr
        yield directory, lab, last_object(up)["hosts"]
    finally:
        lab.down()
