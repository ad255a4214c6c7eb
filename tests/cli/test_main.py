"""The frame of the command line: help, exit codes, errors without tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.cli.main import COMMANDS

NAMES = list(COMMANDS)


def edgefl(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgefl", *argv], cwd=cwd, capture_output=True, text=True, check=False)


def test_help_names_every_command() -> None:
    shown = edgefl("--help")
    assert shown.returncode == 0
    for name in NAMES:
        assert f"\n    {name} " in shown.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_command_shows_examples(name: str) -> None:
    shown = edgefl(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "example" in shown.stdout
    assert f"edgefl {name}" in shown.stdout
    assert "\nexit codes: 0 " in shown.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    assert edgefl("fly").returncode == 2


@pytest.mark.slow
def test_a_missing_site_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    failed = edgefl("check", cwd=tmp_path)
    assert failed.returncode == 10
    assert "edgefl init" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
def test_an_error_is_one_json_object_with_its_exit_code(tmp_path: Path) -> None:
    failed = edgefl("check", "--json", cwd=tmp_path)
    answer = json.loads(failed.stdout.splitlines()[-1])
    assert answer["exit_code"] == failed.returncode == 10
    assert answer["next"]


@pytest.mark.slow
@pytest.mark.parametrize("argv", [("check", "--schema"), ("check", "--schema", "--json")])
def test_a_reader_that_leaves_is_told_from_a_command_that_is_done(argv: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgefl", *argv], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


COMPLAINT = """\
import asyncio, sys
from types import SimpleNamespace
from edgefl.cli import main
async def complains(args, out):
    try:
        raise ConnectionResetError("after close")
    except ConnectionResetError as error:
        asyncio.get_running_loop().call_exception_handler({"message": "error on transport", "exception": error})
    return 0
command = SimpleNamespace(configure=lambda parser: setattr(parser, "epilog", ""), run=complains)
main._command = lambda name: command
sys.exit(main.run(["check"]))
"""


@pytest.mark.parametrize("debug", ["", "1"])
def test_what_a_connection_complains_of_as_it_closes_is_no_traceback_at_a_user(debug: str) -> None:
    environment = {**os.environ, "EDGEFL_DEBUG": debug}
    done = subprocess.run([sys.executable, "-c", COMPLAINT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("ConnectionResetError: after close" in done.stderr) == bool(debug)
