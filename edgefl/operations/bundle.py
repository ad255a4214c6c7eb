"""The bundle by itself: built where there is an index, carried to where there is none, checked, and pushed to hosts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.operations.lock import site_lock
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_of, kept_out, opened
from edgefl.progress import Finished, Progress, Started
from edgefl.site.model import Site

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from edgefl.fleet.bundle import Bundle
    from edgefl.infra.inventory import Inventory

STAGE = "bundle"


async def build(site: Site, into: Path | None = None) -> AsyncIterator[Progress]:
    """Build the site's bundle for each of its architectures and have the site's authority sign it.

    Raises BundleUnbuildable, PkiError, Locked.
    """
    from edgefl.fleet import bundle, signature

    place = into or bundle_directory(site)
    with site_lock(site, "bundle build"):
        async for event in chained(bundle.build(site, place)):
            yield event
        package = bundle.Bundle.load(place)
        began = time.monotonic()
        signed = await asyncio.to_thread(lambda: signature.sign(package, opened(site)))
        what = "signed by the site's authority" if signed else "its signature stands"
        yield Finished(STAGE, "signature", what, changed=signed, seconds=time.monotonic() - began)


async def verify(site: Site, place: Path) -> AsyncIterator[Progress]:
    """Read every file of a bundle and check who answers for it; nothing changes. Raises BundleInvalid, naming each wrong file."""
    from edgefl.fleet import bundle

    began = time.monotonic()
    yield Started(STAGE, "", f"read {place}")
    package = await asyncio.to_thread(bundle.Bundle.load, place)
    await asyncio.to_thread(demand, site, package)
    what = f"{len(package.files)} files are whole and signed by {site.name}'s authority"
    yield Finished(STAGE, "", what, seconds=time.monotonic() - began, detail=about(package))


async def push(site: Site, place: Path, limit: Sequence[str] | None = None) -> AsyncIterator[Progress]:
    """Bring a bundle's files to the caches of every host (or of the named ones) that is not in quarantine; nothing is installed.

    Only what a host lacks travels; cut off anywhere, the next call sends what is left. Each host checks the signature and every
    file itself: raises BundleRefused when it does not take them, and what `ansible.converge` raises.
    """
    from edgefl.fleet import bundle

    inventory = inventory_of(site)
    with site_lock(site, "bundle push"):
        package, out = await asyncio.to_thread(bundle.Bundle.load, place), kept_out(site)
        names = [host.name for host in inventory.hosts if host.name not in out and (limit is None or host.name in limit)]
        async for event in chained(pushed(site, inventory, package, names)):
            yield event


async def pushed(
    site: Site, inventory: Inventory, package: Bundle, limit: Sequence[str] | None = None
) -> AsyncIterator[Progress]:
    """The same for whoever holds the site."""
    from edgefl.fleet import ansible

    async for event in chained(ansible.converge(site, inventory, package, "push.yml", limit=limit)):
        yield event


def demand(site: Site, package: Bundle) -> None:
    """Raise BundleInvalid unless every file of the bundle is whole and one of the site's authorities signed it."""
    from edgefl.fleet import signature

    package.verify()
    signature.check(package, trusted(site))


def trusted(site: Site) -> list[Certificate]:
    """The authorities that this machine knows the site by: its own, or those that came with an operator's identity."""
    from cryptography import x509

    found = [site.state / "pki" / "root.crt", site.state / "pki" / "issuing.crt", site.state / "operator" / "ca.crt"]
    pem = b"".join(path.read_bytes() for path in found if path.exists())
    return x509.load_pem_x509_certificates(pem) if pem else []


def about(package: Bundle) -> dict[str, object]:
    """What a bundle is, for whoever reads --json."""
    return {
        "bundle": str(package.path),
        "version": package.version,
        "architectures": list(package.deps),
        "python": package.python,
        "bytes": package.size,
        "files": len(package.files),
    }
