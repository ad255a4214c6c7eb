"""The way from a site to its monitor, with an identity that is still valid when it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from edgefl.operations.state import inventory_of, passphrase
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient


@asynccontextmanager
async def watching(site: Site, *, renew: bool = True) -> AsyncIterator[MonitorClient]:
    """The site's monitor, opened as its operator.

    The operator's certificate lives as short as every other; whoever owns the authority renews it here on the way, but for who
    must change nothing (`renew=False`).
    Raises NotProvisioned before the first `up`, PkiError when the authority's key does not open.
    """
    from edgefl.monitor.client import MonitorClient
    from edgefl.pki.operator import ensure_operator

    inventory = inventory_of(site)
    if (
        renew and (site.state / "pki" / "root.crt").exists()
    ):  # else this machine only watches, with the identity that it was given
        await asyncio.to_thread(lambda: ensure_operator(site, passphrase=passphrase()))
    async with MonitorClient.open(site.state, inventory) as monitor:
        yield monitor
