"""Prove what hosts reach and what not, and let every console know what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from edgefl.infra.inventory import Inventory
from edgefl.operations.reporting import report_proof
from edgefl.operations.stage import chained
from edgefl.progress import Progress
from edgefl.site.model import Site


async def verify(site: Site, inventory: Inventory, limit: Sequence[str] | None = None) -> AsyncIterator[Progress]:
    """Probe every host (or the named ones); sign and keep what was seen, and tell the monitor, be it good or bad.

    Raises NotIsolated when a path is not as the site says, and the errors of `ssh` when a host cannot be probed: then there is
    no proof, and nothing is told.
    """
    from edgefl.fleet import proof

    try:
        async for event in chained(proof.verify(site, inventory, limit)):
            yield event
    except proof.NotIsolated:
        async for event in chained(report_proof(site, inventory)):
            yield event
        raise
    async for event in chained(report_proof(site, inventory)):
        yield event
