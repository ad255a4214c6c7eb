"""Driving Terraform for one site: plan, apply and destroy as streams of progress that can be stopped anywhere."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from importlib.util import find_spec
from typing import Any

from edgefl.errors import EdgeflError, Locked
from edgefl.infra.changes import Change, changes_in
from edgefl.infra.commands import Long, Short
from edgefl.infra.engine import Engine, choose
from edgefl.infra.failure import Diagnostic, EngineMissing, TerraformFailed
from edgefl.infra.stream import PLANNED, STAGE, Stream
from edgefl.infra.workdir import PROVIDER, Workdir
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site.model import Site

_PARALLEL = 16
"""Hosts that are made at the same time."""
_PLAN = "plan.bin"


class Terraform:
    """The hosts of one site.

    provider: the module that Terraform starts as edgefl's provider.
    Every method raises EngineMissing, TerraformFailed, Locked or ModuleChanged.
    """

    def __init__(self, site: Site, *, provider: str = PROVIDER) -> None:
        self.site = site
        self.workdir = Workdir(site.state / "terraform", provider)
        self.changes: list[Change] = []
        """What the last plan found."""
        self._outputs: dict[str, Any] | None = None

    async def init(self, *, render: bool = True) -> Engine:
        """Write the working root from the site and initialise it where that changed anything; the engine in use."""
        work = self.workdir
        work.prepare()
        engine = await asyncio.to_thread(choose, work.pin, self.site.infrastructure.engine)
        if render or work.module is None:
            work.render(self.site)
        if work.module == "lab" and find_spec("tf") is None:
            raise EngineMissing(
                "edgefl's Terraform provider is not installed; the lab needs it", hint="pip install 'edgefl[provider]'"
            )
        mark, fingerprint = work.top / "initialised", work.fingerprint(engine)
        if mark.exists() and mark.read_text() == fingerprint and (work.root / ".terraform").is_dir():
            return engine
        mark.unlink(missing_ok=True)
        (work.root / ".terraform.lock.hcl").unlink(missing_ok=True)
        await self._short(engine, "init")
        mark.write_text(fingerprint)
        return engine

    async def plan(self) -> AsyncGenerator[Progress, None]:
        """What would change, host by host, drift included; nothing is changed. `changes` has the details afterwards."""
        yield Started(STAGE, "", "is being compared with the site")
        engine = await self.init()
        plan = self.workdir.root / _PLAN
        began = time.monotonic()
        try:
            stream = Stream()
            async with aclosing(self._long(engine, "plan", stream, f"-out={_PLAN}")) as events:
                async for event in events:
                    if not isinstance(event, Step):  # what would change is said below, with what it is and would be
                        yield event
            self.changes = changes_in(json.loads(await self._short(engine, "show", _PLAN)))
        finally:
            plan.unlink(missing_ok=True)
        for change in self.changes:
            detail = {"action": change.action, "address": change.address, "before": change.before, "after": change.after}
            yield Step(STAGE, change.name, PLANNED[change.action], changed=True, detail=detail)
        changed = bool(self.changes)
        what = f"{_hosts(len(self.changes))} would change" if changed else "is as the site says"
        yield Finished(STAGE, "", what, changed=changed, seconds=time.monotonic() - began)

    async def apply(self) -> AsyncGenerator[Progress, None]:
        """Make the hosts as the site says. What is done is in the state even when one of them fails or it is stopped."""
        yield Started(STAGE, "", "is being made as the site says", total=len(self.site.hosts))
        engine = await self.init()
        async for event in self._change(engine, "apply"):
            yield event

    async def destroy(self) -> AsyncGenerator[Progress, None]:
        """Remove every host that the state holds, as it was made, whatever site.yaml says by now."""
        yield Started(STAGE, "", "is being removed")
        if self.workdir.has_hosts:
            engine = await self.init(render=False)
            async for event in self._change(engine, "destroy"):
                yield event
        else:
            yield Finished(STAGE, "", "holds nothing")

    async def outputs(self) -> dict[str, Any]:
        """The values of Terraform's outputs by name; empty before the first apply."""
        if self._outputs is None:
            engine = await self.init(render=False)
            said = json.loads(await self._short(engine, "output_cmd"))
            self._outputs = {name: output["value"] for name, output in said.items()}
        return self._outputs

    async def _change(self, engine: Engine, command: str) -> AsyncGenerator[Progress, None]:
        """Apply or destroy, with a last event that sums it up."""
        began = time.monotonic()
        self._outputs = None
        stream = Stream()
        try:
            async with aclosing(self._long(engine, command, stream, "-auto-approve", f"-parallelism={_PARALLEL}")) as events:
                async for event in events:
                    yield event
        finally:
            if self.workdir.state.exists():
                self.workdir.state.chmod(0o600)
        self._outputs = stream.outputs
        what = f"stands, {_hosts(stream.changed)} changed" if stream.changed else "is as the site says"
        if command == "destroy":
            what = f"is gone, {_hosts(stream.changed)} removed"
        yield Finished(STAGE, "", what, changed=bool(stream.changed), seconds=time.monotonic() - began)

    async def _long(self, engine: Engine, command: str, stream: Stream, *options: str) -> AsyncGenerator[Progress, None]:
        """Stream one command; a failure raises after everything that it said has been passed on."""
        work = self.workdir
        arguments = [work.executable(engine), command, "-json", "-input=false", *options]
        long = Long(arguments, work.root, work.environment(), work.log)
        try:
            async with aclosing(long.lines()) as lines:
                async for line in lines:
                    for event in stream.feed(line):
                        yield event
        except OSError as error:
            raise EngineMissing(f"{engine.kind} {engine.version} does not start: {error}") from error
        if long.code:
            notes = [d for d in stream.diagnostics if d.severity == "note"]
            raise _failure(command, stream.errors or notes or [Diagnostic("error", long.complaint or f"exit code {long.code}")])

    async def _short(self, engine: Engine, command: str, *arguments: str) -> str:
        """The output of one short command."""
        work = self.workdir
        short = Short(work.executable(engine), work.root, work.environment())
        method: Callable[..., tuple[int, str, str]] = getattr(short, command)
        running: Awaitable[tuple[int, str, str]] = asyncio.to_thread(method, *arguments)
        try:
            code, said, errors = await running
        except OSError as error:
            raise EngineMissing(f"{engine.kind} {engine.version} does not start: {error}") from error
        if code:
            raise _failure(command.removesuffix("_cmd"), [Diagnostic("error", " ".join(errors.split()) or said.strip())])
        return said


def _failure(command: str, diagnostics: list[Diagnostic]) -> EdgeflError:
    """The error that a command's words amount to."""
    if any("acquiring the state lock" in diagnostic.summary for diagnostic in diagnostics):
        return Locked("another Terraform works on this site", hint="wait for it to end, then run the same command again")
    return TerraformFailed(command, diagnostics)


def _hosts(count: int) -> str:
    return f"{count} host{'' if count == 1 else 's'}"
