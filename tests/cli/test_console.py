"""`edgefl console` before and around its screen: what it refuses, and that it starts and ends on a real terminal."""

from __future__ import annotations

import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

from edgefl.events.journal import Journal
from edgefl.events.replay import record
from edgefl.events.schema import DeviceState, RunStarted

COMMAND = [sys.executable, "-m", "edgefl", "console"]


class Terminal:
    """A pseudo-terminal of 80x24 with the console in it."""

    def __init__(self, *argv: str, cwd: Path) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        self._process = subprocess.Popen(
            [*COMMAND, *argv], cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.said = ""

    def until(self, text: str, within_s: float = 90.0) -> None:
        deadline = time.monotonic() + within_s
        while text not in self.said:
            left = deadline - time.monotonic()
            assert left > 0, f"waited {within_s} s for {text!r} in {self.said[-2000:]!r}"
            self._read(left)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ended(self, within_s: float = 90.0) -> int:
        deadline = time.monotonic() + within_s
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"still running after {within_s} s"
            self._read(0.1)
        while self._read(1.0):
            pass
        return self._process.returncode

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self, within_s: float) -> bool:
        """Whether it said something."""
        if select.select([self._master], [], [], within_s)[0]:
            try:
                self.said += os.read(self._master, 65536).decode(errors="replace")
                return True
            except OSError:  # the other end is closed
                time.sleep(0.01)
        return False


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    with Journal(tmp_path / "journal.db") as journal:
        journal.append(
            RunStarted(site="clinic", site_hash="ab", task="t", rounds=5, devices=["edge-01"], quorum=1, rule="mean"), run="3"
        )
        journal.append(DeviceState(device="edge-01", state="online"))
        record(journal, tmp_path / "run.ndjson")
    return tmp_path / "run.ndjson"


@pytest.mark.slow
def test_a_recording_is_shown_on_a_terminal_until_q(recording: Path) -> None:
    terminal = Terminal("--replay", str(recording), cwd=recording.parent)
    try:
        terminal.until("clinic")
        terminal.until("edge-01")
        terminal.type("q")
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.said
    finally:
        terminal.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--replay", "no.ndjson"], 2, "is not a recording"),
        (["--theme", "sepia", "--replay", "run.ndjson"], 2, "edgefl-light"),
        (["--readonly"], 10, "edgefl init"),
    ],
)
def test_what_cannot_be_shown_is_said_on_the_plain_terminal(argv: list[str], code: int, says: str, recording: Path) -> None:
    terminal = Terminal(*argv, cwd=recording.parent)
    try:
        assert terminal.ended() == code
        assert says in " ".join(terminal.said.split())
        assert "\x1b[?1049h" not in terminal.said, "the screen was never taken"
    finally:
        terminal.close()


@pytest.mark.slow
def test_an_empty_directory_begins_with_a_first_site(tmp_path: Path) -> None:
    terminal = Terminal(cwd=tmp_path)
    try:
        terminal.until("Where do its hosts come from?")
        terminal.type("\t\t\t\r")
        terminal.until("valid")
        assert (tmp_path / "site.yaml").exists()
        terminal.said = ""
        terminal.type("\x1b")
        terminal.until("P plans")
        terminal.type("q")
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.said
    finally:
        terminal.close()


@pytest.mark.slow
def test_a_site_that_is_wrong_opens_where_it_can_be_corrected(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("name: clinic\ndevcies: []\n")
    terminal = Terminal(cwd=tmp_path)
    try:
        terminal.until("P plans")
        terminal.type("E")
        terminal.until("did you mean devices?")
    finally:
        terminal.close()


def test_without_a_terminal_it_names_the_command_for_scripts(tmp_path: Path) -> None:
    failed = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert failed.returncode == 2
    assert "edgefl status --json" in failed.stderr
