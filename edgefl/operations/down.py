"""Take a site down: lab hosts vanish without a trace, adopted hosts lose everything of edgefl's and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from edgefl.errors import EdgeflError
from edgefl.infra.inventory import Inventory
from edgefl.operations.deeds import note, noted_when_it_fails, tell
from edgefl.operations.lock import site_lock
from edgefl.operations.remember import close, remember
from edgefl.operations.stage import chained
from edgefl.operations.state import inventory_file
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Warned
from edgefl.site import made
from edgefl.site.model import Site


async def down(site: Site, *, why: str = "") -> AsyncIterator[Progress]:
    """Undo `up`. why: the reason, for the audit log.

    The operator's authority, proofs, fetched models and copy of the journal stay in `.edgefl/`; ledger and journal stay on
    adopted hosts.
    """
    from edgefl.infra.terraform import Terraform

    with site_lock(site, "down"), noted_when_it_fails(site, "down", why=why):
        if inventory_file(site).exists():
            async for event in chained(last_word(site, why)):
                yield event
        # Adopted hosts live on without edgefl; a module's own hosts end whole.
        if site.infrastructure.module == "static" and inventory_file(site).exists():
            async for event in chained(_hosts_reset(site, Inventory.load(inventory_file(site)))):
                yield event
        async for event in chained(Terraform(site).destroy()):
            yield event
        if site.infrastructure.module == "lab":
            async for event in chained(_lab_gone(site)):
                yield event
        if site.infrastructure.module != "static":
            close(site)
        inventory_file(site).unlink(missing_ok=True)
        made.file(site).unlink(missing_ok=True)


async def last_word(site: Site, why: str) -> AsyncIterator[Progress]:
    """Tell the journal who takes its coordinator down, and read it to its end; neither may hold that up."""
    note(site.state, "down", site.name, why=why)
    async for event in chained(tell(site)):
        yield event
        if isinstance(event, Warned):
            return
    try:
        async with watching(site) as monitor:
            await remember(site, monitor)
    except EdgeflError as error:
        yield Warned("journal", "", f"its end was not copied: {error.what}", hint=error.hint)


async def _hosts_reset(site: Site, inventory: Inventory) -> AsyncIterator[Progress]:
    """Take edgefl off the hosts that were adopted, but for those that site.yaml no longer names: they may be lost for good."""
    from edgefl.fleet import ansible

    named = {host.name for host in site.hosts}
    for host in inventory.hosts:
        if host.name not in named:
            what = f"is not in site.yaml any more, so edgefl stays on it ({host.address})"
            yield Warned("configuration", host.name, what, hint=f"put {host.name} back into site.yaml, then edgefl down")
    limit = [host.name for host in inventory.hosts if host.name in named]
    if limit:
        async for event in chained(ansible.converge(site, inventory, None, playbook="reset.yml", limit=limit)):
            yield event


async def _lab_gone(site: Site) -> AsyncIterator[Progress]:
    from edgefl.lab.hosts import Lab

    yield Started("lab", "", "its processes, mounts and control groups end")
    await asyncio.to_thread(Lab(site.state / "lab", site.infrastructure.network).down)
    yield Finished("lab", "", "nothing of it is left on this machine")
