"""Have devices finish what they do and be asked no more, and have rounds ask them again: for their care, nothing on them changes.

Who is drained the journal alone says, since it is about rounds alone: services, certificates and walls stay; `up` keeps it so.
A quarantine is more than that, and its release ends both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from edgefl.events.schema import Body, DeviceState, OperatorAction
from edgefl.monitor.device import DeviceRow
from edgefl.monitor.state import FederationState
from edgefl.operations.lock import site_lock
from edgefl.operations.quarantine import devices_of
from edgefl.operations.state import inventory_of
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Step, Warned
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient

STAGE = "drain"
_GRACE_S = 60.0
"""How much longer than a round's deadline its end is awaited."""
_POLL_S = 1.0


async def drain(site: Site, devices: Sequence[str], *, why: str) -> AsyncIterator[Progress]:
    """No round asks these devices any more; ends when none of them is at work. One in quarantine is left as it is.

    Cut short, they are drained all the same, and the same command goes on waiting. Raises NotProvisioned, HostUnknown, Locked,
    MonitorUnreachable.
    """
    names = [host.name for host in devices_of(site, inventory_of(site), devices)]
    began = time.monotonic()
    yield Started(STAGE, "", "they finish what they do, and no round asks them then", total=len(names))
    async with watching(site) as monitor:
        with site_lock(site, "drain"):
            before = (await monitor.status(updates=False)).state.devices
            out = [name for name in names if _standing(before, name) == "quarantined"]
            fresh = [name for name in names if not _standing(before, name)]
            await _tell(monitor, "drain", "drained", fresh, why)
        for name in out:
            yield Warned(STAGE, name, "is in quarantine: no round asks it", hint=f"edgefl release {name} --why TEXT")
        if shortage := short_of(site, (await monitor.status(updates=False)).state):
            yield shortage
        drained = [name for name in names if name not in out]
        busy = await still_at_work(site, monitor, drained)
    for name in drained:
        if name in busy:
            yield Warned(STAGE, name, "is still at work; its round goes on without it")
        else:
            yield Step(STAGE, name, "has nothing to do any more", changed=name in fresh)
    what = f"{len(drained)} of {len(names)} devices are drained"
    yield Finished(STAGE, "", what, changed=bool(fresh), seconds=time.monotonic() - began)


async def undrain(site: Site, devices: Sequence[str], *, why: str) -> AsyncIterator[Progress]:
    """Rounds ask these devices again, from the next one on. One that is not drained is left as it is.

    Raises NotProvisioned, HostUnknown, Locked, MonitorUnreachable.
    """
    names = [host.name for host in devices_of(site, inventory_of(site), devices)]
    began = time.monotonic()
    async with watching(site) as monitor:
        with site_lock(site, "undrain"):
            before = (await monitor.status(updates=False)).state.devices
            back = [name for name in names if _standing(before, name) == "drained"]
            await _tell(monitor, "undrain", "undrained", back, why)
    for name in names:
        if _standing(before, name) == "quarantined":
            yield Warned(STAGE, name, "is in quarantine, and stays there", hint=f"edgefl release {name} --why TEXT")
        else:
            yield Step(STAGE, name, "is asked again" if name in back else "was not drained", changed=name in back)
    what = f"rounds ask {len(back)} devices again"
    yield Finished(STAGE, "", what, changed=bool(back), seconds=time.monotonic() - began)


def at_work(state: FederationState, names: Collection[str]) -> list[str]:
    """Those of the devices of which the round that is going expects something."""
    if state.run is None or state.run.status != "running" or not state.rounds:
        return []
    last = state.rounds[-1]
    return [name for name in names if last.state == "running" and name in last.devices]


async def still_at_work(site: Site, monitor: MonitorClient, names: Collection[str]) -> list[str]:
    """Wait until the round that these are in is over, a deadline and a minute at most; those that it does not let go of."""
    # A round may have been about to begin when they were set aside, so they must be found at rest twice.
    ends, quiet, busy = time.monotonic() + site.run.deadline_s + _GRACE_S, 0, list(names)
    while busy or quiet < 2:
        busy = at_work((await monitor.status(updates=False)).state, names)
        quiet = 0 if busy else quiet + 1
        if time.monotonic() >= ends:
            break
        if quiet < 2:
            await asyncio.sleep(_POLL_S)
    return busy


def short_of(site: Site, state: FederationState) -> Warned | None:
    """What to say where too few devices are left for a round."""
    left = sum(not _standing(state.devices, device.name) for device in site.devices)
    needed = state.run.quorum if state.run is not None and state.run.status == "running" else site.quorum
    if left >= needed:
        return None
    what = f"{left} of {len(site.devices)} devices are left, and a round needs {needed}: no run goes on with so few"
    return Warned(STAGE, "", what, hint="undrain a device, or lower run.quorum in site.yaml and edgefl up")


async def _tell(monitor: MonitorClient, action: str, state: str, names: Sequence[str], why: str) -> None:
    """The journal's word, for those for whom it is new."""
    news: list[Body] = []
    for name in names:
        news.append(DeviceState.model_validate({"device": name, "state": state, "detail": why}))
        news.append(OperatorAction(who="", action=action, subject=name, why=why))
    if news:
        await monitor.append(*news)


def _standing(rows: Mapping[str, DeviceRow], name: str) -> str:
    row = rows.get(name)
    return row.standing if row is not None else ""
