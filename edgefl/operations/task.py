"""Whether the site's task can be trained, said before anything is deployed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from edgefl.errors import Where
from edgefl.federation.outline import TaskInvalid, check_task
from edgefl.progress import Finished, Progress, Started
from edgefl.site.model import Site

STAGE = "task"


async def prove_task(site: Site) -> AsyncIterator[Progress]:
    """Read the task's source, then import it in a process of its own, where this machine has what hosts have; there the model is
    made too, where the site's modes demand something of it.

    An import costs seconds, so what was proven once is not tried again until it changes, and nothing is said then. Where torch is
    not installed here, the source is read and no more. Raises TaskInvalid with the user's own line.
    """
    ref, root = site.task.module, site.root
    outline = check_task(ref, root, site.task.parameters, private=site.privacy.mode == "dp-sgd")
    if find_spec("torch") is None:
        return
    asked = _demands(site)
    mark = hashlib.sha256(outline.path.read_bytes() + ref.encode() + asked.encode()).hexdigest()
    proven = site.state / "task.proven"
    if proven.exists() and proven.read_text() == mark:
        return
    began = time.monotonic()
    yield Started(STAGE, "", f"import {ref} as a device would")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edgefl.federation.task", ref, str(root), asked),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise _problem(ref, said)
    with suppress(OSError):  # a site that may only be read is imported every time
        site.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        proven.write_text(mark)
    yield Finished(STAGE, "", "can be trained", seconds=time.monotonic() - began)


def _demands(site: Site) -> str:
    """What the site asks of the task's model, as JSON of federation/demands.py's; empty where any model will do."""
    private, encrypted = site.privacy.mode == "dp-sgd", site.secure.mode == "homomorphic"
    if not (private or encrypted or site.task.personal_layers):
        return ""
    task = site.task.model_dump(include={"parameters", "personal_layers"})
    return json.dumps({**task, "private": private, "encrypted": encrypted})


def _problem(ref: str, said: bytes) -> TaskInvalid:
    try:
        error = json.loads(said.splitlines()[-1])
        where = tuple(Where(Path(place["file"]), place["line"], place["text"]) for place in error["where"])
        return TaskInvalid(error["what"], hint=error["next"], where=where)
    except (IndexError, ValueError, KeyError, TypeError):
        return TaskInvalid(f"task {ref} ends the process that imports it", hint=f"python -m edgefl.federation.task {ref}")
