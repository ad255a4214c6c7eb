"""Keep a device away from the federation, and take it back: its certificates, its firewall and its part in rounds.

Who is in quarantine the authority's register says (operations/state.py); gate, device and journal follow it, and every call and
every `up` brings them to it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError
from edgefl.infra.inventory import Host, Inventory
from edgefl.operations.interruption import spared
from edgefl.operations.lock import site_lock
from edgefl.operations.reporting import report_standing
from edgefl.operations.revoke import STAGE as REVOCATION
from edgefl.operations.revoke import refuse, refuse_late
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_of, kept_out
from edgefl.operations.verify import verify
from edgefl.operations.watch import watching
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.fleet.bundle import Bundle

STAGE = "quarantine"


async def quarantine(site: Site, devices: Sequence[str], *, why: str) -> AsyncIterator[Progress]:
    """Cut devices off: the gate first, then the run that is going, then their own firewall. Nothing on them is deleted.

    A device that does not answer is cut off by the gate all the same; its firewall follows with the next `up`. It works while a
    run is going, and again, it changes nothing. Raises NotProvisioned, HostUnknown, PkiError, and, after all that could be done
    without it, what the coordinator did not answer to.
    """
    inventory = inventory_of(site)
    chosen = devices_of(site, inventory, devices)
    names = [host.name for host in chosen]
    with site_lock(site, "quarantine", urgent=True):
        untold: EdgeflError | None = None
        try:
            async for event in chained(refuse(site, inventory, names, why)):
                yield event
        except EdgeflError as error:
            if not kept_out(site).keys() >= set(names):
                raise  # nothing was revoked: nothing has begun
            untold = error
            yield Failed(REVOCATION, inventory.coordinator.name, "does not refuse them yet", why=error.what, hint=error.hint)
        async for event in chained(report_standing(site, "quarantine", names, why), keep_apart(site, chosen)):
            yield event
        if untold is not None:
            raise untold
        async for event in chained(refuse_late(site, inventory, names, why)):
            yield event
        if shortage := short_of(site):
            yield shortage


async def release(site: Site, devices: Sequence[str], *, why: str) -> AsyncIterator[Progress]:
    """Take devices back: new keys and certificates, their firewall and services as the site says, proven, and in rounds again.

    What a device has spent of its budget stays spent. What the policy held against it counts no more, also where that alone kept
    it out of rounds. Cut short anywhere, the same command goes on from there. Raises NotProvisioned, HostUnknown,
    MonitorUnreachable, RunGoing where the site has changed so that the coordinator would end a run, and what configuring and
    probing hosts raises.
    """
    from edgefl.fleet.bundle import Bundle

    inventory = inventory_of(site)
    chosen = devices_of(site, inventory, devices)
    names = [host.name for host in chosen]
    with site_lock(site, "release"):
        async with watching(site) as monitor:
            rows = (await monitor.status(updates=False)).state.devices
        out = kept_out(site)
        begun = {name for name, row in rows.items() if row.standing == "quarantined"}
        back = [host for host in chosen if host.name in out or host.name in begun]
        if back:
            # Only what was revoked is given up: keys of a release that was cut short are new already.
            fresh = [host for host in back if host.name in out]
            package = Bundle.load(bundle_directory(site))
            taken_in = _taken_in(site, inventory, package, [host.name for host in back])
            async for event in chained(spared(site, package, makes_hosts=False), _renounced(fresh), taken_in):
                yield event
        async for event in chained(report_standing(site, "release", names, why, released=names)):
            yield event


async def keep_apart(site: Site, hosts: Sequence[Host]) -> AsyncIterator[Progress]:
    """Have each device's own firewall cut it off, all at once; one that does not answer is only warned about."""
    from edgefl.fleet import cutoff

    if not hosts:
        return
    began = time.monotonic()
    yield Started(STAGE, "", "each device speaks to its operator alone", total=len(hosts))

    async def done(host: Host) -> tuple[Host, str, EdgeflError | None]:
        try:
            return host, await cutoff.cut(site, host), None
        except EdgeflError as error:
            return host, "", error

    tasks = [asyncio.create_task(done(host)) for host in hosts]
    changes, missed = 0, 0
    try:
        for task in asyncio.as_completed(tasks):
            host, changed, error = await task
            changes, missed = changes + bool(changed), missed + (error is not None)
            if error is not None:
                what = f"is cut off by the gate; its own firewall follows with the next up: {error.what}"
                yield Warned(STAGE, host.name, what, hint=error.hint)
            else:
                yield Step(STAGE, host.name, changed or "is cut off", changed=bool(changed))
    finally:
        for task in tasks:
            task.cancel()
    what = f"{len(hosts) - missed} of {len(hosts)} devices cut themselves off"
    yield Finished(STAGE, "", what, changed=bool(changes), seconds=time.monotonic() - began)


def short_of(site: Site) -> Warned | None:
    """What to say where too few devices are left for a round."""
    left = len(site.devices) - len(kept_out(site))
    if left >= site.quorum:
        return None
    what = f"{left} of {len(site.devices)} devices are left, and a round needs {site.quorum}: no run goes on with so few"
    return Warned(STAGE, "", what, hint="release a device, or lower run.quorum in site.yaml and edgefl up")


async def _renounced(hosts: Sequence[Host]) -> AsyncIterator[Progress]:
    """Have devices give up the keys whose certificates were revoked."""
    from edgefl.fleet import cutoff

    if not hosts:
        return
    yield Started(STAGE, "", "the devices give up their revoked identities", total=len(hosts))
    for host, gone in zip(hosts, await asyncio.gather(*map(cutoff.renounce, hosts)), strict=True):
        yield Step(STAGE, host.name, f"{len(gone)} files of its old identity are gone", changed=bool(gone))
    yield Finished(STAGE, "", "they come back with new keys", changed=True)


async def _taken_in(site: Site, inventory: Inventory, package: Bundle, names: Sequence[str]) -> AsyncIterator[Progress]:
    """Enrol, configure and start the devices as `up` does, and prove their isolation before any round asks them."""
    from edgefl.fleet import ansible

    limit = [inventory.coordinator.name, *names]
    async for event in chained(ansible.converge(site, inventory, package, limit=limit), verify(site, inventory, names)):
        yield event


def devices_of(site: Site, inventory: Inventory, names: Sequence[str]) -> list[Host]:
    """The named devices' hosts. Raises HostUnknown; neither the coordinator nor the host that watches is a device."""
    from edgefl.fleet.hosts import HostUnknown, select

    chosen = select(inventory, names) if names else ()
    for other in (host for host in chosen if host.role != "device"):
        known = ", ".join(host.name for host in inventory.devices)
        raise HostUnknown(f"{other.name} is the {other.role} of {site.name}, not a device", hint=f"one of {known}")
    return list(chosen)
