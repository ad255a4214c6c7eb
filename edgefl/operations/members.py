"""Who joins a site, who leaves it and who comes with new hardware: what `up` does about it before any host is touched.

A device that leaves finishes the round that it is in; then its certificates open nothing, and an adopted host loses everything of
edgefl but its ledger. A run that is going goes on with the others, and asks who joined from its next round on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events.schema import Body, DeviceState, OperatorAction
from edgefl.infra.inventory import Host, Inventory
from edgefl.operations.drain import still_at_work
from edgefl.operations.revoke import refuse
from edgefl.operations.stage import chained
from edgefl.operations.state import inventory_of
from edgefl.operations.watch import watching
from edgefl.pki.register import GONE, REPLACED, Register
from edgefl.progress import Finished, Progress, Started, Step, Warned
from edgefl.site.addresses import assign
from edgefl.site.host import HostBase
from edgefl.site.model import Site
from edgefl.site.observability import SUBJECT

STAGE = "members"


class MemberRefused(EdgeflError):
    """site.yaml asks for what would lose a device's past."""

    exit_code = ExitCode.SITE_INVALID


@dataclass(frozen=True, slots=True)
class Changes:
    """What site.yaml makes of the hosts that exist. left: those that it names no more, but for the coordinator. replaced: others
    with another SSH host key.
    """

    left: tuple[Host, ...] = ()
    replaced: tuple[str, ...] = ()


def changes(site: Site, known: Inventory) -> Changes:
    """Compare. Raises MemberRefused for a rename, for a host that would become something else, and for a lab host that would get
    another address by its place in the list.
    """
    there, named = {host.name: host for host in known.hosts}, {host.name for host in site.hosts}
    left = tuple(host for host in known.hosts if host.role != "coordinator" and host.name not in named)
    for host in site.hosts:
        if (before := there.get(host.name)) is not None and before.role != host.role:
            what = f"{host.name} is the site's {before.role}, and site.yaml makes it the {host.role}: it would keep what it has"
            raise MemberRefused(what, hint=f"take {host.name} out of site.yaml and edgefl up; then name it as the {host.role}")
    if site.asks_module:
        return Changes(left)  # its module decides who is there, and under which name
    is_lab = site.infrastructure.module == "lab"
    addresses = assign(site) if is_lab else {host.name: host.address for host in site.hosts if host.address is not None}
    for host in site.hosts:
        before, address = there.get(host.name), str(addresses.get(host.name, ""))
        if before is None:
            _refuse_rename(host, address, left)
        elif is_lab and before.address != address:
            raise MemberRefused(
                f"{host.name} would get the address {address} in place of {before.address}, be made anew and lose its ledger",
                hint=f"address: {before.address} in site.yaml keeps it where it is; edgefl down gives all of them up",
            )
    keys = {host.name: host.host_key for host in site.hosts if host.role != "coordinator"}
    replaced = [host.name for host in known.hosts if _is_another_key(host.host_key, keys.get(host.name))]
    return Changes(left, tuple(replaced))


async def part(site: Site, known: Inventory, found: Changes) -> AsyncIterator[Progress]:
    """See devices off: no new round, the end of the one that goes, then no certificate, and nothing of edgefl on their hosts.

    Raises PkiError, and DeviceUnreachable where the coordinator cannot be told whom it lets in no more; the same command goes on.
    """
    if not found.left and not found.replaced:
        return
    began, names = time.monotonic(), [host.name for host in found.left]
    yield Started(STAGE, "", "who leaves the site, and whose hardware was replaced", total=len(names) + len(found.replaced))
    if names:
        async for event in chained(_drained(site, found.left)):
            yield event
    watchers = {host.name for host in known.hosts if host.role == "watcher"}
    for leaving, why in ((names, GONE), (found.replaced, REPLACED)):
        # What a host that watches has is of no host's name, and kept there.
        if certified := _certified(site, [SUBJECT if name in watchers else name for name in leaving]):
            async for event in chained(refuse(site, known, certified, why)):
                yield event
    for name in (name for name in found.replaced if name not in watchers):
        what = "comes with new hardware: unless you restore its ledger its budget begins anew, and every round flags it for that"
        yield Warned(STAGE, name, what, hint="copy /var/lib/edgefl/ledger from the old one before the first round")
    if names and site.infrastructure.module == "static":
        async for event in chained(_cleaned(site, known, names)):
            yield event
    what = f"{len(names)} left, {len(found.replaced)} replaced"
    yield Finished(STAGE, "", what, changed=True, seconds=time.monotonic() - began)


async def renounced(site: Site, names: Collection[str]) -> AsyncIterator[Progress]:
    """Have hosts whose hardware was replaced give up what keys they brought along; one that is away, preflight names."""
    from edgefl.fleet import cutoff

    for name in names:
        try:
            gone = await cutoff.renounce(inventory_of(site).host(name))
        except EdgeflError:
            continue
        yield Step(STAGE, name, f"{len(gone)} files of an old identity are gone", changed=bool(gone))


async def _drained(site: Site, hosts: Collection[Host]) -> AsyncIterator[Progress]:
    """Tell the run that these are asked no more, and wait for the end of the round that they are in; who watches is in none."""
    names = [host.name for host in hosts if host.role == "device"]
    try:
        async with watching(site) as monitor:
            known = (await monitor.status(updates=False)).state
            news: list[Body] = []
            watchers = [host.name for host in hosts if host.role == "watcher" and host.name in known.proofs]
            for name in (*names, *watchers):
                row = known.devices.get(name)
                if row is None or row.standing != "removed":
                    news += [DeviceState(device=name, state="removed", detail=GONE)]
                    news += [OperatorAction(who="", action="remove", subject=name, why="site.yaml names it no more")]
            if news:
                await monitor.append(*news)
            busy = await still_at_work(site, monitor, names) if names else []
            for name in busy:
                yield Warned(STAGE, name, "is still at work; its round goes on without it")
    except EdgeflError as error:
        yield Warned(STAGE, "", f"a run that is going is not told: {error.what}", hint=error.hint)
        return
    for name in names:
        if name not in busy:
            yield Step(STAGE, name, "has nothing to do any more", changed=True)


async def _cleaned(site: Site, known: Inventory, names: Sequence[str]) -> AsyncIterator[Progress]:
    from edgefl.fleet import ansible

    try:
        async for event in chained(ansible.converge(site, known, None, playbook="reset.yml", limit=names)):
            yield event
    except EdgeflError as error:
        what = f"still has edgefl's software, which nobody lets in: {error.what}"
        yield Warned(STAGE, ", ".join(names), what, hint="wipe it, or name it in site.yaml once more when it is there again")


def _certified(site: Site, names: Collection[str]) -> list[str]:
    """Those that ever had a certificate."""
    subjects = {entry.subject for entry in Register(site.state / "pki" / "index.jsonl").entries()}
    return [name for name in names if name in subjects]


def _refuse_rename(host: HostBase, address: str, left: Collection[Host]) -> None:
    """A host that leaves under one name and comes under another, or as something else."""
    for gone in left:
        if address == gone.address or (host.host_key and host.host_key == gone.host_key):
            same = f"address {address}" if address == gone.address else "SSH host key"
            what = f"{host.name} has the {same} of {gone.name}, which site.yaml names no more: "
            if (host.role, gone.role) != ("device", "device"):
                what += f"what it has as the site's {gone.role} is taken away first"
                raise MemberRefused(what, hint=f"take {host.name} out of site.yaml and edgefl up; then name it")
            what += "a device is not renamed, since its certificates, its flags and what it has spent are known by its name"
            raise MemberRefused(
                what, hint=f"call it {gone.name}; a new device in its place comes with an `edgefl up` between the two changes"
            )


def _is_another_key(before: str | None, now: str | None) -> bool:
    """Whether two SSH host keys differ; a comment at their end does not count."""
    return bool(before and now) and str(before).split()[:2] != str(now).split()[:2]
