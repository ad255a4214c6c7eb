"""The real console in a real terminal (tmux), as an operator drives it, against the fleet."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Fleet, last_object, until

pytestmark = pytest.mark.e2e

DEVICE = "edge-03"
REACHED = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], 7443), 3)
    print("open")
except OSError as error:
    print("closed", error)
"""


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, socket: Path, command: list[str], *, columns: int = 120, lines: int = 40) -> None:
        self._socket = str(socket)
        size = ("-x", str(columns), "-y", str(lines))
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, shlex.join(command))
        self._tmux("set", "-g", "remain-on-exit", "on")

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: `Enter`, `Escape`, `Q`."""
        for key in keys:
            self._tmux("send-keys", key)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    @property
    def shown(self) -> str:
        return self._tmux("capture-pane", "-p")

    @property
    def exit_code(self) -> int | None:
        """The command's, once it has ended."""
        status = self._tmux("display-message", "-p", "#{pane_dead_status}").strip()
        return int(status) if status else None

    def until(self, *texts: str, deadline_s: float = 30, when: Callable[[str], object] = bool) -> str:
        """Wait until the screen shows all of this; what it shows then."""
        seen = [""]

        def holds() -> bool:
            seen[0] = self.shown
            return all(text in seen[0] for text in texts) and bool(when(seen[0]))

        try:
            until(holds, f"{texts} on the screen", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows\n{seen[0]}") from error
        return seen[0]

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)

    def _tmux(self, *argv: str) -> str:
        done = subprocess.run(["tmux", "-S", self._socket, *argv], capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def terminal(fleet: Fleet, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", [sys.executable, "-m", "edgefl", "console", "--site", str(fleet.directory)])
    try:
        yield terminal
    finally:
        terminal.close()
        fleet.edgefl("stop", "--why", "the test is over", "--json")


def reached(fleet: Fleet) -> str:
    """What the device's SuperNode finds when it calls the coordinator."""
    address = str(fleet.lab.read("coordinator").spec.address)  # type: ignore[union-attr]
    as_node = ("setpriv", "--reuid", "edgefl-node", "--regid", "edgefl-node", "--clear-groups")
    done = fleet.on(DEVICE, *as_node, "python3", "-c", REACHED, address)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_operator_runs_the_fleet_from_a_terminal(fleet: Fleet, terminal: Terminal) -> None:
    terminal.until("● live", "life", *(f"edge-0{number}" for number in (1, 2, 3, 4)))
    terminal.press("r")
    terminal.until("Start a run")
    terminal.press("y")
    terminal.until("TRAINING", deadline_s=60)

    terminal.press("Enter")
    page = terminal.until("▸ edge-01", "certificate ends in", "isolation ✓", "updates", deadline_s=60)
    rounds = len(re.findall(r"✓ accept", page))
    terminal.until(deadline_s=60, when=lambda now: len(re.findall(r"✓ accept", now)) > rounds)  # the next round arrives
    terminal.press("Escape")
    terminal.until("SEEN")

    terminal.press("x")
    terminal.until("Stop the run", "Stop run")
    terminal.press("y")
    terminal.until("STOPPED", deadline_s=60)

    assert reached(fleet) == "open"
    terminal.press("Down", "Down", "Q")
    terminal.until(f"{DEVICE}", "why, for the audit log")
    terminal.type("its updates look wrong")
    terminal.press("Enter")
    terminal.until("⊘ quarantined", deadline_s=90)
    assert reached(fleet).startswith("closed"), "it is cut off on the host"
    terminal.press("R")
    terminal.until("why, for the audit log")
    terminal.type("they were looked at")
    terminal.press("Enter")
    terminal.until("SEEN", deadline_s=120, when=lambda now: "quarantined" not in now)
    assert reached(fleet) == "open"

    terminal.press("7")
    terminal.until("its updates look wrong", "they were looked at")
    assert last_object(fleet.edgefl("status", "--json"))["run_status"] == "stopped"
    terminal.press("q")
    until(lambda: terminal.exit_code is not None, "the end of the console", 30)
    assert terminal.exit_code == 0
