"""What the coordinator renewed while no operator was there, noted where everything is that was ever certified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError
from edgefl.events.schema import CertificateIssued
from edgefl.operations.state import inventory_file
from edgefl.operations.watch import watching
from edgefl.pki.register import Entry, Register
from edgefl.progress import Finished, Progress, Warned
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient

_KIND = "certificate_issued"


async def learn(site: Site, monitor: MonitorClient) -> int:
    """Take renewals from the journal into the authority's register, without which none of them could be revoked; how many.

    Raises MonitorUnreachable.
    """
    register = Register(site.state / "pki" / "index.jsonl")
    found: list[Entry] = []
    known, before = {entry.serial for entry in register.entries()}, 0
    while True:
        page = await monitor.past([_KIND], before=before)
        bodies = [event.body for event in page.events if isinstance(event.body, CertificateIssued)]
        renewed = [body for body in bodies if body.issuer == "renewal"]
        fresh = [body for body in renewed if body.serial not in known]
        found += map(_entry, fresh)
        before = page.before
        if not before or (renewed and not fresh):
            return register.learn(found[::-1])


async def hear(site: Site, *, patience_s: float | None = None) -> AsyncIterator[Progress]:
    """Ask the coordinator what it renewed, where there is one; a coordinator that cannot be asked is only warned about.

    patience_s: how long to wait for it; None is as long as the monitor's client does.
    """
    if not inventory_file(site).exists():
        return
    try:
        async with asyncio.timeout(patience_s), watching(site) as monitor:
            count = await learn(site, monitor)
    except TimeoutError:
        yield Warned("certificates", "", f"what was renewed lately is not known here: no answer within {patience_s:g} s")
        return
    except EdgeflError as error:
        yield Warned("certificates", "", f"what was renewed lately is not known here: {error.what}", hint=error.hint)
        return
    if count:
        yield Finished("certificates", "", f"{count} were renewed since the last time")


def _entry(body: CertificateIssued) -> Entry:
    begins, ends = body.not_before.isoformat(), body.not_after.isoformat()
    return Entry(body.serial, body.subject, body.role, begins, ends, issuer="renewal", key=body.key_sha256)
