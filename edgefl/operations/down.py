"""Take a site down: lab hosts vanish without a trace, adopted hosts lose everything of edgefl's and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from edgefl.infra.inventory import Inventory
from edgefl.operations.lock import site_lock
from edgefl.operations.stage import chained
from edgefl.operations.state import inventory_file
from edgefl.progress import Finished, Progress, Started, Warned
from edgefl.site import made
from edgefl.site.model import Site


async def down(site: Site) -> AsyncIterator[Progress]:
    """Undo `up`.

    The operator's authority, proofs and fetched models stay in `.edgefl/`; ledger and journal stay on adopted hosts.
    """
    from edgefl.infra.terraform import Terraform

    with site_lock(site, "down"):
        # Adopted hosts live on without edgefl; a module's own hosts end whole.
        if site.infrastructure.module == "static" and inventory_file(site).exists():
            async for event in chained(_hosts_reset(site, Inventory.load(inventory_file(site)))):
                yield event
        async for event in chained(Terraform(site).destroy()):
            yield event
        if site.infrastructure.module == "lab":
            async for event in chained(_lab_gone(site)):
                yield event
        inventory_file(site).unlink(missing_ok=True)
        made.file(site).unlink(missing_ok=True)


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
