"""Give the site another root while a run goes on; the older one is trusted beside it until that is finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from edgefl.operations.interruption import RunGoing
from edgefl.operations.lock import site_lock
from edgefl.operations.reporting import report_certificates
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_of, kept_out, passphrase
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.pki.authority import Authority

STAGE = "certificates"


async def rotate_ca(site: Site) -> AsyncIterator[Progress]:
    """Make another root and issuing authority, have every host trust both, then certify every host by the newer one.

    A device in quarantine is left out. Until every other host trusts both, nothing is signed by the newer one; cut short
    anywhere, the same call goes on. Raises NotProvisioned and what configuring hosts raises.
    """
    from edgefl.fleet import ansible
    from edgefl.fleet.bundle import Bundle

    inventory = inventory_of(site)
    out = kept_out(site)
    trusting = [host.name for host in inventory.hosts if host.name not in out]
    with site_lock(site, "certs rotate-ca"):
        package = Bundle.load(bundle_directory(site))
        authority = await asyncio.to_thread(_authority, site)
        began = time.monotonic()
        if await asyncio.to_thread(authority.prepare):
            yield Started(STAGE, "", "another root; every host learns to trust it")
            async for event in chained(ansible.converge(site, inventory, package, "trust.yml", limit=trusting)):
                yield event
            await asyncio.to_thread(authority.succeed)
            yield Finished(STAGE, "", "the newer root signs from now on", changed=True, seconds=time.monotonic() - began)
        async for event in chained(ansible.converge(site, inventory, package, "trust.yml", limit=trusting)):
            yield event
        async for event in chained(report_certificates(site, "rotate-ca", [site.name])):
            yield event


async def finish_ca(site: Site) -> AsyncIterator[Progress]:
    """Have every host trust the newer root alone, and delete the older one's keys; where there is one root, nothing changes.

    Raises RunGoing: what is started before the newer root was trusted would not know it.
    """
    from edgefl.fleet import ansible
    from edgefl.fleet.bundle import Bundle

    inventory = inventory_of(site)
    out = kept_out(site)
    trusting = [host.name for host in inventory.hosts if host.name not in out]
    with site_lock(site, "certs rotate-ca"):
        package = Bundle.load(bundle_directory(site))
        authority = await asyncio.to_thread(_authority, site)
        if not (authority.overlaps or authority.is_finishing):
            yield Finished(STAGE, "", "one root is trusted; there is nothing to finish")
            return
        async with watching(site) as monitor:
            run = (await monitor.status(updates=False)).state.run
        if run is not None and run.status == "running":
            what = f"run {run.id} is going, and may have begun before the newer root was trusted"
            raise RunGoing(what, hint="edgefl certs rotate-ca --finish when it is over")
        await asyncio.to_thread(authority.finish)
        async for event in chained(ansible.converge(site, inventory, package, "distrust.yml", limit=trusting)):
            yield event
        await asyncio.to_thread(authority.forget)
        async for event in chained(report_certificates(site, "rotate-ca --finish", [site.name])):
            yield event


def _authority(site: Site) -> Authority:
    from edgefl.pki.authority import Authority

    return Authority.open(site.state, site=site, passphrase=passphrase())
