"""Take a site down: lab hosts vanish without a trace, adopted hosts lose everything of edgefl's and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from edgefl.operations.lock import site_lock
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_file
from edgefl.progress import Finished, Progress, Started
from edgefl.site.model import Site


async def down(site: Site) -> AsyncIterator[Progress]:
    """Undo `up`.

    The operator's authority, proofs and fetched models stay in `.edgefl/`; ledger and journal stay on adopted hosts.
    """
    from edgefl.infra.inventory import Inventory
    from edgefl.infra.terraform import Terraform

    with site_lock(site, "down"):
        # Adopted hosts live on without edgefl; a module's own hosts end whole.
        if site.infrastructure.module == "static" and inventory_file(site).exists():
            from edgefl.fleet import ansible, bundle

            inventory = Inventory.load(inventory_file(site))
            package = bundle.Bundle.load(bundle_directory(site))
            async for event in chained(ansible.converge(site, inventory, package, playbook="reset.yml")):
                yield event
        async for event in chained(Terraform(site).destroy()):
            yield event
        if site.infrastructure.module == "lab":
            async for event in chained(_lab_gone(site)):
                yield event
        inventory_file(site).unlink(missing_ok=True)


async def _lab_gone(site: Site) -> AsyncIterator[Progress]:
    from edgefl.lab.hosts import Lab

    yield Started("lab", "", "its processes, mounts and control groups end")
    await asyncio.to_thread(Lab(site.state / "lab", site.infrastructure.network).down)
    yield Finished("lab", "", "nothing of it is left on this machine")
