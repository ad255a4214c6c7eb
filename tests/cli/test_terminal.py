"""What commands write on a terminal and into a pipe: colours for the one, plain text for the other, a traceback for neither."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "edgefl"]
SITE = """\
name: clinic
infrastructure: {module: static}
coordinator: {address: 127.0.0.1}
devices: [{name: edge-01, address: 127.0.0.2}]
isolation: {operator_addresses: [127.0.0.3]}
"""
ESCAPE = "\x1b"

Shown = tuple[int, str]
"""The exit code, and all that was written, errors among it."""


def environment() -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    return {**variables, "TERM": "xterm-256color"}


def into_a_pipe(*argv: str, cwd: Path) -> Shown:
    done = subprocess.run(
        [*COMMAND, *argv],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def on_a_terminal(*argv: str, cwd: Path) -> Shown:
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen([*COMMAND, *argv], cwd=cwd, env=environment(), stdin=slave, stdout=slave, stderr=slave)
    finally:
        os.close(slave)
    said = bytearray()
    try:
        while part := os.read(master, 65536):
            said += part
    except OSError:  # how Linux says that nobody holds the other end any more
        pass
    finally:
        os.close(master)
    return process.wait(), said.decode(errors="replace")


def plain(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(SITE)
    return tmp_path


@pytest.fixture
def wrong(site: Path) -> Path:
    (site / "site.yaml").write_text(SITE.replace("127.0.0.2", "127.0.0.1"))
    return site


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "says"),
    [("check", "clinic is valid: 1 devices on static"), ("plan", "edge-01 does not exist yet, and would be configured whole")],
)
def test_a_command_that_works(command: str, says: str, site: Path) -> None:
    code, piped = into_a_pipe(command, cwd=site)
    assert (code, ESCAPE in piped) == (0, False), piped
    assert says in " ".join(piped.split())
    code, shown = on_a_terminal(command, cwd=site)
    assert (code, f"{ESCAPE}[32m✔" in shown) == (0, True), shown
    assert says in plain(shown)
    assert "Traceback" not in piped + shown
    assert shown.rfind(f"{ESCAPE}[?25h") >= shown.rfind(f"{ESCAPE}[?25l"), "the cursor is left as it was"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "plan"])
@pytest.mark.parametrize("way", [into_a_pipe, on_a_terminal])
def test_a_command_that_fails(command: str, way: Callable[..., Shown], wrong: Path) -> None:
    code, said = way(command, cwd=wrong)
    assert code == 10
    assert "Traceback" not in said
    assert "site.yaml:4" in said
    assert "127.0.0.1 is coordinator's address already" in plain(said)
    assert (ESCAPE in said) == (way is on_a_terminal)
