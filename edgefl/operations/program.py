"""A program of edgefl's that needs what hosts have (torch, numpy), run beside the operator's process, which loads neither."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgefl import progress
from edgefl.errors import EdgeflError, ExitCode, Where
from edgefl.progress import Progress

_KINDS: Mapping[str, type[Progress]] = {
    kind.__name__.lower(): kind for kind in (progress.Started, progress.Step, progress.Finished, progress.Failed, progress.Warned)
}
_LONGEST_LINE = 2**20
_PATIENCE_S = 5.0
"""How long a program that was told to end may take to do so."""


class HostPackagesMissing(EdgeflError):
    """A program of the hosts' kind cannot run on this machine."""


async def program(module: str, arguments: Sequence[str]) -> AsyncIterator[Progress | dict[str, Any]]:
    """Run `python -m module`: its progress as it comes, then its result.

    The program prints a JSON object a line: progress, at last `{"result": {…}}`, or an error as errors.py writes it, which is
    raised here with its exit code. Cancelled or closed, the program is ended before anything else happens. One thread: more
    only wait for each other on small models.
    """
    if find_spec("torch") is None:
        raise HostPackagesMissing(
            f"{module} needs the packages that hosts run, and they are not on this machine",
            hint="pip install 'edgefl[host,audit]'",
        )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("a program without pipes")
    complaints = asyncio.create_task(process.stderr.read())
    said: dict[str, Any] = {}
    try:
        async for line in process.stdout:
            if (told := _told(line)) is None:
                continue
            said = told
            if (event := _event(told)) is not None:
                yield event
        code = await process.wait()
        if "result" in said and not code:
            yield said["result"]
            return
        raise _failure(module, said, (await complaints).decode(errors="replace"))
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        complaints.cancel()


async def printed(module: str, *arguments: str) -> str:
    """Run a module of edgefl's as a program; the last line that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        last = (err.decode().strip().splitlines() or ["no message"])[-1]
        raise EdgeflError(f"{module} failed: {last}", hint=f"python -m {module} {' '.join(arguments)}")
    return (out.decode().strip().splitlines() or [""])[-1]


def _told(line: bytes) -> dict[str, Any] | None:
    """An object that the program printed; None for what a task of the user's prints, which is not for us."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _event(told: Mapping[str, Any]) -> Progress | None:
    kind = _KINDS.get(str(told.get("type", "")))
    try:
        return kind(**{name: value for name, value in told.items() if name != "type"}) if kind is not None else None
    except TypeError:
        return None  # a task's own words again


def _failure(module: str, said: Mapping[str, Any], complaints: str) -> EdgeflError:
    if "error" not in said:
        last = (complaints.strip().splitlines() or ["no message"])[-1]
        return EdgeflError(f"{module} ended without a result: {last}", hint=f"python -m {module} --help")
    where = tuple(Where(Path(place["file"]), place["line"], place["text"]) for place in said["where"])
    error = EdgeflError(said["what"], hint=said["next"], where=where)
    error.exit_code = ExitCode(said["exit_code"])
    return error
