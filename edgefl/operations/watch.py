"""The way from a site to its monitor, with an identity that is still valid when it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError
from edgefl.operations.state import inventory_of, passphrase
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient

_LOOK_S = 300.0


@asynccontextmanager
async def watching(site: Site, *, renew: bool = True) -> AsyncIterator[MonitorClient]:
    """The site's monitor, opened as its operator.

    The operator's certificate lives as short as every other; whoever owns the authority renews it here on the way, but for who
    must change nothing (`renew=False`).
    Raises NotProvisioned before the first `up`, PkiError when the authority's key does not open.
    """
    from edgefl.monitor.client import MonitorClient

    inventory = inventory_of(site)
    if renew:
        await _renewed(site)
    async with MonitorClient.open(site.state, inventory) as monitor:
        yield monitor


@asynccontextmanager
async def lasting(site: Site) -> AsyncIterator[MonitorClient]:
    """As `watching`, for whoever stays for longer than a certificate lives: it is looked after all the while."""

    async def looked_after() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            with suppress(EdgeflError):  # whoever then cannot connect says so
                await _renewed(site)

    async with watching(site) as monitor:
        looking = asyncio.create_task(looked_after())
        try:
            yield monitor
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def _renewed(site: Site) -> None:
    from edgefl.pki.operator import ensure_operator

    if (site.state / "pki" / "root.crt").exists():  # else this machine only watches, with the identity that it was given
        await asyncio.to_thread(lambda: ensure_operator(site, passphrase=passphrase()))
