"""The real console in a real terminal (tmux), as an operator drives it: from an empty directory to a run and a quarantine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgefl.site import load

from .conftest import Fleet, edgefl, last_object, until
from .terminal import Terminal, console

pytestmark = [pytest.mark.e2e, pytest.mark.life]

DEVICE = "edge-03"
REACHED = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], 7443), 3)
    print("open")
except OSError as error:
    print("closed", error)
"""


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Fleet]:
    """A site that does not exist yet; whatever comes to stand of it is taken down."""
    directory = tmp_path / "ward"
    mounts = Path("/proc/self/mountinfo").read_text()
    yield Fleet(directory)
    if not (directory / "site.yaml").exists():
        return  # it never came to a site
    gone = edgefl("down", "--site", str(directory), "--yes", "--json")
    assert gone.returncode == 0, gone.stdout[-3000:] + gone.stderr
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.fixture
def terminal(ward: Fleet, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", console(ward))
    yield terminal
    terminal.close()


@pytest.fixture
def watcher(ward: Fleet, tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    """A second operator's terminal, as small as they come, who only watches; from when it is called."""
    opened: list[Terminal] = []

    def open_() -> Terminal:
        opened.append(Terminal(tmp_path / "tmux-watcher", console(ward, "--readonly"), columns=80, lines=24))
        return opened[0]

    yield open_
    for terminal in opened:
        terminal.close()


def give_data(directory: Path) -> None:
    """Each device its own few images, said in site.yaml as an operator would."""
    make = [sys.executable, "-m", "edgefl.lab.data", "--task", "images", "--devices", "3", "--records", "600"]
    subprocess.run([*make, "--out", str(directory / "data")], check=True, capture_output=True)
    path = directory / "site.yaml"
    path.write_text(re.sub(r"- name: (edge-\d+)", r"- name: \1\n    data: data/\1", path.read_text()))
    assert len([device for device in load(directory).devices if device.data]) == 3


def reached(ward: Fleet) -> str:
    """What the device's SuperNode finds when it calls the coordinator."""
    address = str(ward.lab.read("coordinator").spec.address)  # type: ignore[union-attr]
    as_node = ("setpriv", "--reuid", "edgefl-node", "--regid", "edgefl-node", "--clear-groups")
    done = ward.on(DEVICE, *as_node, "python3", "-c", REACHED, address)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_operator_makes_a_fleet_trains_it_and_cuts_a_device_off_without_leaving_the_console(
    ward: Fleet, terminal: Terminal, watcher: Callable[[], Terminal]
) -> None:
    terminal.until("There is no site.yaml in", "lab")
    terminal.press("Tab", "Tab", "BSpace", "3", "Enter")
    terminal.until("name: ward", "✓ saved", "valid")
    give_data(ward.directory)
    terminal.press("Escape")
    terminal.until("A applies it")

    terminal.press("A")
    terminal.until("Apply to ward", "Apply (y)", deadline_s=120)
    terminal.press("y")
    terminal.until("● at work", "edge-02", deadline_s=120)  # its host is being made
    terminal.press("C")
    terminal.until("Stop it as Ctrl-C would")
    terminal.press("y")
    terminal.until("■ stopped", "A goes on from here", deadline_s=120)
    terminal.press("A")
    terminal.until("The last apply did not come to its end", deadline_s=120)
    terminal.press("y")
    terminal.until("infrastructure", "configuration", deadline_s=400)
    terminal.until("it stands and is proven", deadline_s=600)

    terminal.press("1")
    terminal.until("● live", "edge-01", "edge-02", "edge-03", "✓ 3/3")
    terminal.press("r")
    terminal.until("Start a run")
    terminal.press("y")
    terminal.until("TRAINING", deadline_s=90)
    terminal.press("Enter")
    page = terminal.until("▸ edge-01", "certificate ends in", "isolation ✓", "updates", "✓ edgefl-supernode runs", deadline_s=90)
    rounds = len(re.findall(r"✓ accept", page))
    terminal.until(deadline_s=90, when=lambda now: len(re.findall(r"✓ accept", now)) > rounds)  # the next round arrives
    terminal.press("Escape")
    terminal.until("SEEN")
    terminal.press("x")
    terminal.until("Stop the run", "Stop (y)")
    terminal.press("y")
    terminal.until("STOPPED", deadline_s=90)

    other = watcher()
    other.until("● live", DEVICE, "? Help q Quit", when=lambda now: "Quarantine" not in now)
    assert reached(ward) == "open"
    terminal.press("End", "Q")
    terminal.until(DEVICE, "why, for the audit log")
    terminal.type("its updates look wrong")
    terminal.press("Enter")
    terminal.until(f"cut off: {DEVICE}", deadline_s=120)
    terminal.until("⊘ quarantined")
    other.until("⊘ quarantined")
    assert reached(ward).startswith("closed"), "it is cut off on the host"
    terminal.press("R")
    terminal.until("Release", "why, for the audit log")
    terminal.type("they were looked at")
    terminal.press("Enter")
    terminal.until(f"back: {DEVICE}", deadline_s=180)
    terminal.until("SEEN", when=lambda now: "quarantined" not in now)
    other.until("SEEN", when=lambda now: "quarantined" not in now)
    until(lambda: reached(ward) == "open", "the device to reach the coordinator again", 60)

    terminal.press("7")
    other.press("7")
    for each in (terminal, other):
        each.until("quarantine", "its upda", "release", "they wer")  # both audits have who did it, and why
    status = last_object(edgefl("status", "--site", str(ward.directory), "--json"))
    assert status["run_status"] == "stopped"
    terminal.press("q")
    until(lambda: terminal.exit_code is not None, "the end of the console", 30)
    assert terminal.exit_code == 0
