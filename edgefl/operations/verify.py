"""Prove what hosts reach and what not, and let every console know what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from edgefl.infra.inventory import Inventory
from edgefl.operations.reporting import report_proof
from edgefl.operations.stage import chained
from edgefl.operations.state import kept_out
from edgefl.progress import Progress, Warned
from edgefl.site.model import Site


async def verify(site: Site, inventory: Inventory, limit: Sequence[str] | None = None) -> AsyncIterator[Progress]:
    """Probe every host (or the named ones); sign and keep what was seen, and tell the monitor, be it good or bad.

    A device in quarantine is not probed: it must not reach what a proof asks for. Raises NotIsolated when a path is not as the
    site says, and the errors of `ssh` when a host cannot be probed: then there is no proof, and nothing is told.
    """
    from edgefl.fleet import proof

    named = [host.name for host in inventory.hosts if limit is None or host.name in limit]
    out = kept_out(site)
    for name in named:
        if name in out:
            yield Warned(proof.STAGE, name, "is in quarantine, and is not probed", hint=f"edgefl release {name} --why TEXT")
    limit = [name for name in named if name not in out]
    if not limit:
        return
    try:
        async for event in chained(proof.verify(site, inventory, limit)):
            yield event
    except proof.NotIsolated:
        async for event in chained(report_proof(site, inventory)):
            yield event
        raise
    async for event in chained(report_proof(site, inventory)):
        yield event
