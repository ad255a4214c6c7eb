"""Programs that run on hosts: sent over SSH, standard library alone, any Python from 3.9 on, one JSON object a line as output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from edgefl.errors import EdgeflError
from edgefl.fleet import ssh
from edgefl.infra.inventory import Host

_START = "import sys; exec(compile(sys.stdin.buffer.read({size}), {name!r}, 'exec'))"


class ProgramFailed(EdgeflError):
    """A program ended on a host without having done its work; the text is its own last words."""


def program(name: str) -> bytes:
    """The source of one of these programs."""
    return (files(__name__) / f"{name}.py").read_bytes()


def started(name: str) -> tuple[list[str], bytes]:
    """The command that runs a program on a host, and its source: what it is to read first; what follows is for the program."""
    source = program(name)
    return ["python3", "-c", _START.format(size=len(source), name=name)], source


async def ask(host: Host, name: str, said: Mapping[str, Any], *, timeout_s: float = 60.0) -> dict[str, Any]:
    """Run a program as root on the host, tell it this, and return what it answers.

    Raises the errors of `ssh.run`, and ProgramFailed.
    """
    command, source = started(name)
    done = await ssh.run(host, command, source + json.dumps(said).encode(), timeout_s=timeout_s)
    if done.returncode:
        why = (done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ProgramFailed(f"{host.name}: {why}", hint=f"edgefl doctor {host.name}")
    return dict(json.loads(done.stdout))
