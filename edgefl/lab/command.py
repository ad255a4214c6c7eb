"""Run the machine's own tools, with what they said when they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from edgefl.lab.failure import LabFailed

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the tools lie: a user's PATH often lacks the sbin directories."""
_GRACE_S = 2.0
_running: set[subprocess.Popen[str]] = set()
_interrupts: list[None] = []
"""One for each, so that what was being started meanwhile ends, too; threads and a signal's handler may append at any time."""


def run(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60, env: Mapping[str, str] | None = None) -> str:
    """Standard output of a command that ended well.

    Raises LabFailed with the command's last lines when it fails, is missing, or takes longer than `timeout_s`.
    """
    done = complete(argv, stdin=stdin, timeout_s=timeout_s, env=env)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-6:]
        raise LabFailed(f"{shown(argv)} failed (exit {done.returncode}): " + " | ".join(said))
    return done.stdout


def complete(
    argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that ended, well or not. One that takes too long is ended with all its children, and LabFailed is raised."""
    before = len(_interrupts)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**environment(), **(env or {})},
        )
    except FileNotFoundError as missing:
        raise LabFailed(f"{argv[0]} is not on this machine", hint="apt-get install it, or run `edgefl doctor`") from missing
    _running.add(process)
    try:
        if len(_interrupts) > before:
            _terminate(process)
        out, error = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as late:
        raise LabFailed(f"{shown(argv)} did not end within {timeout_s:g} s") from late
    finally:
        _running.discard(process)
        _end(process)
    return subprocess.CompletedProcess(list(argv), process.returncode, out, error)


def interrupt() -> None:
    """End every command that this process is waiting for, with its children; their callers get LabFailed. For a Ctrl-C."""
    _interrupts.append(None)
    for process in list(_running):
        _terminate(process)


def _terminate(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _end(process: subprocess.Popen[str]) -> None:
    """Nothing of the command goes on: it may clean up first, but not for long."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


def detach(argv: Sequence[str], *, log: Path, first: Sequence[str] = ()) -> None:
    """Start a process that outlives this one: own session, child of nobody here, no inherited descriptor but its log.

    first: a command that becomes its arguments, e.g. to join a control group; it has done its work when this returns.
    """
    with log.open("ab") as sink:
        done = subprocess.run(
            [*first, "setsid", "--fork", *argv],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd="/",
            env={"PATH": PATH, "LC_ALL": "C.UTF-8"},  # nothing of the caller's, secrets least of all, stays with it
            check=False,
        )
    if done.returncode != 0:
        raise LabFailed(f"{shown(argv)} cannot be started", hint=f"see {log}")


def environment() -> dict[str, str]:
    """The caller's environment with the system's tools on the path and in plain English, as they are parsed."""
    return {**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8"}


def shown(argv: Sequence[str]) -> str:
    """A command as a reader needs it: its name and its first arguments."""
    text = " ".join(" ".join(argv).split())
    return text if len(text) <= 120 else text[:117] + "..."


def wait_until(condition: Callable[[], bool], what: str, *, deadline_s: float, every_s: float = 0.02) -> None:
    """Return when `condition()` holds; LabFailed naming `what` was awaited when it does not within `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            raise LabFailed(f"{what} did not come about within {deadline_s:g} s")
        time.sleep(every_s)
