"""Whether what changed since the last `up` would end the run that is going: found out before anything is touched.

A run lives in two of the coordinator's services, and ends where one of them starts anew. The gate and the monitor may, and so may
what a device has: rounds go on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError, ExitCode
from edgefl.infra.changes import Change
from edgefl.infra.inventory import prospective
from edgefl.monitor.errors import Busy
from edgefl.operations.stage import chained
from edgefl.operations.state import known_hosts
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.fleet.bundle import Bundle

STAGE = "run"
LIVED_IN = ("edgefl-superlink", "edgefl-superexec")


class RunGoing(EdgeflError):
    """A run is going that must not be, or would end with what is to be done."""

    exit_code = ExitCode.LOCKED


async def going(site: Site, *, renew: bool = True) -> str:
    """The run that is going; empty where there is none, or no coordinator that could say so: `up` is how that comes back.

    renew: whether the operator's certificate may be, on the way. Raises Busy.
    """
    try:
        async with watching(site, renew=renew) as monitor:
            run = (await monitor.status(updates=False)).state.run
    except Busy:
        raise
    except EdgeflError:
        return ""
    return run.id if run is not None and run.status == "running" else ""


async def spared(site: Site, package: Bundle, *, makes_hosts: bool = True) -> AsyncIterator[Progress]:
    """Nothing where no run is going; else what `up` would do to the coordinator is found out, and nothing done.

    makes_hosts: whether its host might be made anew, too. Raises RunGoing where it would end the run, and what the check raises.
    """
    if not (run := await going(site)):
        return
    began = time.monotonic()
    yield Started(STAGE, "", f"run {run} is going; would it end with what has changed?")
    if reasons := await _reasons(site, package, makes_hosts=makes_hosts):
        what = f"run {run} is going, and would end: {', '.join(reasons)}. Nothing was changed on any host"
        raise RunGoing(what, hint="edgefl up when it is over, or edgefl up --now; edgefl plan shows what has changed")
    yield Finished(STAGE, "", f"run {run} goes on: nothing that it lives in starts anew", seconds=time.monotonic() - began)


async def foreseen(site: Site, reasons: Sequence[str]) -> AsyncIterator[Progress]:
    """That the run which is going would end, for these reasons; nothing where there is none of either."""
    if reasons and (run := await going(site, renew=False)):
        began = time.monotonic()
        yield Started(STAGE, "", "what would become of the run that is going")
        yield Step(STAGE, run, f"would end: {', '.join(reasons)}", changed=True)
        what = f"run {run} would end; `edgefl up` waits to be told so (--now)"
        yield Finished(STAGE, "", what, changed=True, seconds=time.monotonic() - began)


def uprooted(site: Site, changes: Iterable[Change]) -> Iterator[str]:
    """Why a run would end with what Terraform would do; nothing where the coordinator's host stays up."""
    if any(change.name == site.coordinator.name and not change.leaves_it_up for change in changes):
        yield f"the host {site.coordinator.name} is made or booted anew"


def restarted(site: Site, step: Progress) -> Iterator[str]:
    """Why a run would end with what Ansible would do in this step."""
    if step.subject == site.coordinator.name:
        yield from (f"{unit} starts anew" for unit in step.detail.get("restarted", ()) if unit in LIVED_IN)


async def _reasons(site: Site, package: Bundle, *, makes_hosts: bool) -> list[str]:
    """Why the run would end, by Terraform's plan and by Ansible's check of the coordinator alone."""
    from edgefl.fleet import ansible
    from edgefl.infra.terraform import Terraform

    if makes_hosts:
        terraform = Terraform(site)
        async for _ in chained(terraform.plan()):
            pass
        if found := list(uprooted(site, terraform.changes)):
            return found
    # Who joins has no host yet, and no part in what the run lives in.
    known = known_hosts(site)
    there = {host.name for host in known.hosts}
    site = site.having([device for device in site.devices if device.name in there])
    if site.watcher is not None and site.watcher.name not in there:
        site = site.unwatched
    if (fleet := prospective(site, known)) is None:
        return []
    check = ansible.converge(site, fleet, package, limit=[site.coordinator.name], check=True)
    return [reason async for event in chained(check) for reason in restarted(site, event)]
