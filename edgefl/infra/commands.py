"""The two ways to run Terraform: short commands through python-terraform, long ones as a stream of lines."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import python_terraform

PATIENCE_S = 300.0
"""How long a stopped command may finish what it has in hand (a host that boots) before it is killed."""
_LINE_LIMIT = 2**24
"""One line holds all outputs, so it grows with the site."""


class Short(python_terraform.Terraform):  # type: ignore[misc]  # python-terraform has no types
    """init, validate, show and output, in the site's directory and environment.

    python-terraform's own way to run a command inherits the operator's environment whole, reads the state after each
    command, and runs any misspelled method as a subcommand; here none of that happens.
    """

    def __init__(self, executable: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        super().__init__(working_dir=str(directory), terraform_bin_path=executable)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"no short command {name!r}")

    def read_state_file(self, file_path: str | None = None) -> None:
        """The state is Terraform's; nothing here reads it."""

    def cmd(self, cmd: str, *args: str, **options: Any) -> tuple[int, str, str]:
        """Run one command; its exit code, output and errors. OSError when the engine does not start."""
        try:
            done = subprocess.run(
                self.generate_cmd_string(cmd, *args, **options),
                cwd=self.working_dir,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                start_new_session=True,
                umask=0o077,
                check=False,
            )
        finally:
            self.temp_var_files.clean_up()  # an empty one is made for every `init`
        return done.returncode, done.stdout, done.stderr

    def show(self, plan: str) -> tuple[int, str, str]:
        """A saved plan as JSON."""
        return self.cmd("show", plan, json=python_terraform.IsFlagged, no_color=python_terraform.IsFlagged)

    def validate(self) -> tuple[int, str, str]:
        """What is wrong with the configuration, as JSON."""
        return self.cmd("validate", json=python_terraform.IsFlagged, no_color=python_terraform.IsFlagged)

    def output_cmd(self) -> tuple[int, str, str]:
        """Every output as JSON (python-terraform's `output` hides errors)."""
        return self.cmd("output", json=python_terraform.IsFlagged, no_color=python_terraform.IsFlagged)


class Long:
    """A command whose lines are read while it works. `code` is its exit code once the lines have ended."""

    def __init__(self, command: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path) -> None:
        self.command = tuple(command)
        self.directory, self.environment, self.log = directory, dict(environment), log
        self.code: int | None = None

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Its standard output line by line; standard error goes to the log. OSError when the engine does not start.

        When the reader goes away or is cancelled, the command gets one SIGINT and the time to finish what it has in hand,
        write its state and release its lock. It has a session of its own, so a terminal's Ctrl-C does not reach it twice.
        """
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.directory,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                limit=_LINE_LIMIT,
            )
        stdout = process.stdout
        assert stdout is not None  # noqa: S101 - asked for above
        try:
            async for line in stdout:
                yield line
            self.code = await process.wait()
        finally:
            if process.returncode is None:
                await _stop(process)

    @property
    def complaint(self) -> str:
        """The end of what it wrote to its standard error."""
        with suppress(FileNotFoundError):
            return self.log.read_text(errors="replace").strip()[-2000:]
        return ""


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Interrupt once and wait; kill what does not end."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(process.communicate(), PATIENCE_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
