"""Attack the site's own task on purpose, and say what leaked: on data of its kind that lie on this machine.

The devices' data stay where they are. The audit trains and attacks by itself, in a program beside this process, with the site's
task, parameters and privacy terms; its report lies in `.edgefl/audits/`, its result goes to the journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events.schema import AuditFinished
from edgefl.operations.deeds import tell
from edgefl.operations.program import printed, program
from edgefl.progress import Finished, Progress, Started
from edgefl.site import site_hash
from edgefl.site.model import Site

Kind = Literal["membership", "inversion", "baseline"]
PROGRAM = "edgefl.federation.privacy.audits"
SHIPPED = {"edgefl.federation.tasks.images": "images", "edgefl.federation.tasks.hospitals": "hospitals"}
"""Tasks whose lab data can be made here, as the demo makes its own."""


class NoData(EdgeflError):
    """There is nothing on this machine to audit with."""

    exit_code = ExitCode.USAGE


async def audit(
    site: Site, kind: Kind, *, data: Sequence[Path] = (), options: Mapping[str, Any] | None = None
) -> AsyncIterator[Progress]:
    """Audit the site; the last event's detail has the verdict and where the report lies.

    data: directories as devices of the task have them; without, the data of the site's lab devices, made where they are
    missing and the task is a shipped one. options: further arguments of the program. Cancelled, what was finished is kept and
    the next call goes on from there. Raises NoData, TaskInvalid, HostPackagesMissing.
    """
    began = time.monotonic()
    options = dict(options or {})
    directories = _given(data)
    if not directories:
        async for made in _made(site):
            yield made
        directories = [device.data for device in site.devices if device.data is not None]
    place = site.state / "audits" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}"
    yield Started("audit", "", f"{kind}: {site.task.module} on {_named(directories)}")
    result: dict[str, Any] = {}
    arguments = [*_arguments(site, kind, directories, place), *(f"--{name}={value}" for name, value in options.items())]
    async with aclosing(cast("AsyncGenerator[Progress | dict[str, Any], None]", program(PROGRAM, arguments))) as said:
        async for event in said:
            if isinstance(event, dict):
                result = event
            else:
                yield event
    await asyncio.to_thread(_keep, site, kind, place, result)
    yield Finished("audit", "", result["says"], changed=True, seconds=time.monotonic() - began)
    async for told in tell(site):
        yield told
    yield Finished("report", "", result["report"], detail=result)


def _given(data: Sequence[Path]) -> list[Path]:
    for directory in data:
        if not directory.is_dir():
            raise NoData(f"there is no directory {directory}", hint="--data DIR, a directory as a device of this task has it")
    return [directory.absolute() for directory in data]


def _keep(site: Site, kind: Kind, place: Path, result: Mapping[str, Any]) -> None:
    """Write down what the journal is to be told, until it was."""
    body = AuditFinished(
        audit=kind,
        passed=result["passed"],
        says=result["says"][:1000],
        figures=dict(list(result["figures"].items())[:100]),
        at=datetime.now(UTC),
        site_hash=site_hash(site),
        report_sha256=hashlib.sha256((place / "report.json").read_bytes()).hexdigest(),
    )
    draft = place / ".untold.json.new"
    draft.write_text(body.model_dump_json())
    draft.replace(place / "untold.json")


def _arguments(site: Site, kind: Kind, directories: Sequence[Path], place: Path) -> list[str]:
    """The site's task and terms as arguments of the program."""
    named = {
        "task": site.task.module,
        "root": site.root.absolute(),
        "out": place,
        "parts": site.state / "audits" / "parts",
        "site": json.dumps({"name": site.name, "hash": site_hash(site)}),
        "parameters": json.dumps(site.task.parameters),
        "rounds": site.run.rounds,
        "epsilon": site.privacy.epsilon_per_run,
        "epsilon-limit": site.privacy.epsilon_limit,
        "delta": site.privacy.delta,
        "max-grad-norm": site.privacy.max_grad_norm,
        "seed": site.run.seed,
        "aggregation": site.aggregation.model_dump_json(exclude={"policy"}),
        "personal-layers": json.dumps(site.task.personal_layers),
    }
    words = [kind, *(f"--{name}={value}" for name, value in named.items()), *(f"--data={path}" for path in directories)]
    words += ["--no-privacy"] if site.privacy.mode != "dp-sgd" else []
    return [*words, "--sums"] if site.secure.mode != "none" else words


async def _made(site: Site) -> AsyncIterator[Progress]:
    """The lab devices' data on this machine, made where the task is a shipped one."""
    local = [device.data for device in site.devices if device.data is not None and site.infrastructure.module == "lab"]
    if not local or len(local) < len(site.devices):
        raise NoData(
            f"the data of {site.name} lie on its devices, and an audit does not fetch them",
            hint="--data DIR: public or held-out records of the same kind, as a device of this task has them",
        )
    missing = [path for path in local if not path.is_dir()]
    if not missing:
        return
    parents = {path.parent for path in local}
    if site.task.module not in SHIPPED or len(parents) > 1:
        raise NoData(f"there is no data in {missing[0]}", hint="--data DIR")
    yield Started("data", "", f"{SHIPPED[site.task.module]}, split among {len(local)} devices")
    names = ",".join(path.name for path in local)
    await printed("edgefl.lab.data", "--task", SHIPPED[site.task.module], "--names", names, "--out", str(parents.pop()))
    yield Finished("data", "", f"{len(local)} directories", changed=True)


def _named(directories: Sequence[Path]) -> str:
    return str(directories[0]) if len(directories) == 1 else f"{len(directories)} directories beside {directories[0]}"
