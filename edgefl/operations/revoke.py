"""End certificates early: the gate stops serving them at once, also on connections that live, and after every restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgefl.infra.inventory import Inventory
from edgefl.operations.lock import site_lock
from edgefl.operations.renewals import hear
from edgefl.operations.reporting import report_standing
from edgefl.operations.stage import chained
from edgefl.operations.state import inventory_of, passphrase
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.pki.authority import Authority

STAGE = "revocation"
_HEARING_S = 3.0
"""How long a revocation waits for what the coordinator renewed; what is heard of later is revoked with the rest."""


async def revoke(site: Site, name: str, *, why: str) -> AsyncIterator[Progress]:
    """Revoke every certificate of a device, an operator or a scraper, have the gate refuse them, and tell the monitor.

    A device is then in quarantine (`edgefl release` brings it back), but for its own firewall, which the next `up` closes. Again,
    it changes nothing. Raises NotProvisioned, PkiError when the name has no certificate or is the coordinator's, and
    DeviceUnreachable when the coordinator cannot be told: what was revoked stays so, and the same command goes on from there.
    """
    inventory = inventory_of(site)
    with site_lock(site, "certs revoke", urgent=True):
        told = report_standing(site, "revoke", [name], why)
        async for event in chained(refuse(site, inventory, [name], why), told, refuse_late(site, inventory, [name], why)):
            yield event


async def refuse(site: Site, inventory: Inventory, names: Sequence[str], why: str) -> AsyncIterator[Progress]:
    """Revoke what these names have, in the register first, and have the gate obey; see `revoke`."""
    from edgefl.fleet import gate
    from edgefl.pki.anchors import revoked_serials

    began = time.monotonic()
    yield Started(STAGE, "", "the gate refuses them from now on", total=len(names))
    async for event in chained(hear(site, patience_s=_HEARING_S)):
        yield event
    crl, revoked = await asyncio.to_thread(_revoke, site, names, why)
    for name, serials in revoked.items():
        what = f"{_counted(len(serials), 'certificate')} revoked" if serials else "was revoked before"
        yield Step(STAGE, name, what, changed=bool(serials), detail={"serials": serials})
    refusal = await gate.refuse(inventory.coordinator, crl, revoked_serials(crl.decode()), names)
    what = f"the gate refuses them; {_counted(refusal.ended, 'live connection')} ended"
    if not refusal.is_live:
        what = "the gate does not run now, and refuses them when it starts"
    detail = {"live": refusal.is_live, "ended": refusal.ended}
    changed = any(revoked.values()) or bool(refusal.ended)
    yield Finished(STAGE, "", what, changed=changed, seconds=time.monotonic() - began, detail=detail)


async def refuse_late(site: Site, inventory: Inventory, names: Sequence[str], why: str) -> AsyncIterator[Progress]:
    """Revoke what these names renewed in the moment before the monitor heard of it; it renews nothing of theirs since."""
    was_renewed = False
    async for event in hear(site, patience_s=_HEARING_S):
        was_renewed = was_renewed or isinstance(event, Finished)
        yield event
    if was_renewed:
        async for event in chained(refuse(site, inventory, names, why)):
            yield event


def _revoke(site: Site, names: Sequence[str], why: str) -> tuple[bytes, Mapping[str, list[str]]]:
    """The lists after it, and the serials that were revoked just now, by name. Raises PkiError before anything is."""
    from edgefl.pki.authority import Authority
    from edgefl.pki.operator import forget_operator

    authority = Authority.open(site.state, site=site, passphrase=passphrase())
    found = {name: _revocable(site, authority, name) for name in names}
    for serials in found.values():
        for serial in serials:
            authority.revoke(serial, why)
    for name in names:
        forget_operator(site, name)
    return authority.crl(), found


def _revocable(site: Site, authority: Authority, name: str) -> list[str]:
    """The serials of what a name has: all that still serve, and the newest of each role even if it has ended by itself."""
    from edgefl.pki.errors import PkiError

    if name == site.coordinator.name:
        what = f"{name} is the coordinator: without its certificates no device trains, and nobody watches"
        raise PkiError(what, hint="move .edgefl/pki/issuing.* away and run `edgefl up`: every host gets others")
    entries = [entry for entry in authority.certificates() if entry.subject == name]
    if not entries:
        raise PkiError(f"{name} never had a certificate of {site.name}", hint="edgefl devices")
    newest = {entry.role: entry.serial for entry in entries}.values()
    now = datetime.now(UTC)
    return [e.serial for e in entries if not e.is_revoked and (e.expires > now or e.serial in newest)]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
