"""Another version on every host: a few devices first, more while the federation is well, and back by itself when it is not."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events.schema import OperatorAction, RoundFinished, RoundSkipped, RunFinished
from edgefl.infra.inventory import Inventory
from edgefl.monitor.client import MonitorClient
from edgefl.monitor.round import RoundRow
from edgefl.monitor.state import FederationState
from edgefl.operations import bundle as bundles
from edgefl.operations import versions, waves
from edgefl.operations.lock import SiteLock, site_lock
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_of, kept_out, opened
from edgefl.operations.task import prove_task
from edgefl.operations.watch import watching
from edgefl.progress import Failed, Finished, Progress, Started
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.fleet.bundle import Bundle

STAGE = "upgrade"


class RolledBack(EdgeflError):
    """The new version was not healthy, and hosts run the one before it again."""

    exit_code = ExitCode.ROLLED_BACK


class NoVersion(EdgeflError):
    """There is no earlier version to go back to."""

    exit_code = ExitCode.NOT_PROVISIONED


class Unhealthy(EdgeflError):
    """The federation is worse with the new version than it was before."""


@dataclass(frozen=True, slots=True)
class Move:
    """From one version to another. devices: those that take part; one in quarantine is left as it is."""

    site: Site
    fleet: Inventory
    devices: tuple[str, ...]
    old: Bundle
    new: Bundle

    async def put(self, package: Bundle, names: Sequence[str], *, away: int, tolerated: int = 0) -> AsyncIterator[Progress]:
        """Have these hosts run a version, so many devices at a time; tolerated: percent that may fail before it ends there."""
        from edgefl.fleet import ansible

        other = self.old if package is self.new else self.new
        also = [other.fab_sha256] if other.fab_sha256 != package.fab_sha256 else []
        extra = {"upgrade_batch": max(1, away), "upgrade_tolerated": tolerated, "device_apps_also": also}
        converged = ansible.converge(self.site, self.fleet, package, "upgrade.yml", limit=names, extra=extra)
        async for event in chained(converged):
            yield event

    def away(self, wave: Sequence[str], state: FederationState) -> int:
        """How many devices of a wave may be away at once."""
        devices = len(self.devices)
        return waves.batch(devices, self.site.run.needed(devices), len(wave), is_training=_training(state))


async def upgrade(site: Site, to: Path | None = None, canaries: int | None = None) -> AsyncIterator[Progress]:
    """Bring a bundle (or this edgefl's own code) to every host in waves; the coordinator comes last, after the run that is going.

    to: a bundle's directory. canaries: devices that get it first, where it is not what the site says.
    Raises RolledBack when a wave was not healthy; cancelled anywhere, the next call goes on. What raises before the first wave
    has changed nothing on any host.
    """
    from edgefl.fleet.bundle import Bundle

    inventory = inventory_of(site)
    with site_lock(site, "upgrade") as lock:
        async for event in chained(_prepared(site, to)):
            yield event
        move = await asyncio.to_thread(_move, site, inventory, Bundle.load(versions.next_directory(site)))
        if move.new.version == move.old.version:
            shutil.rmtree(move.new.path)
            _settle(site, to)
            yield Finished(STAGE, "", f"every host has version {move.old.version} already", detail=_said(move))
            return
        taking_part = [move.fleet.coordinator.name, *move.devices]
        pushed = bundles.pushed(site, inventory, move.new, taking_part)
        async for event in chained(_fitness(move, taking_part), pushed, _rolled_out(move, lock, canaries)):
            yield event
        versions.adopt(site)
        _settle(site, to)


async def rollback(site: Site) -> AsyncIterator[Progress]:
    """Have every host run the version before this one again; `up` stays with it until the next `upgrade`."""
    from edgefl.fleet import signature
    from edgefl.fleet.bundle import Bundle

    inventory = inventory_of(site)
    with site_lock(site, "rollback") as lock:
        if not versions.previous_directory(site).exists():
            raise NoVersion("there is no version before this one", hint="edgefl upgrade --to BUNDLE")
        previous = Bundle.load(versions.previous_directory(site))
        await asyncio.to_thread(lambda: signature.sign(previous, opened(site)))
        move = await asyncio.to_thread(_move, site, inventory, previous)
        async for event in chained(_rolled_out(move, lock, len(move.devices), action="rollback")):
            yield event
        versions.revert(site)
        versions.hold(site, f"{move.old.version} was taken back by `edgefl rollback`")


async def _prepared(site: Site, to: Path | None) -> AsyncIterator[Progress]:
    """Have the new version's bundle in the site's state, whole and signed."""
    from edgefl.fleet import bundle, signature, store

    place = versions.next_directory(site)
    if to is None:
        async for event in chained(prove_task(site), bundle.build(site, place)):
            yield event
        package = bundle.Bundle.load(place)
        await asyncio.to_thread(lambda: signature.sign(package, opened(site)))
        return
    async for event in chained(bundles.verify(site, to)):
        yield event
    shutil.rmtree(place, ignore_errors=True)
    await asyncio.to_thread(lambda: shutil.copytree(to, place, copy_function=lambda a, b: store.link(Path(a), Path(b))))


def _move(site: Site, inventory: Inventory, new: Bundle) -> Move:
    from edgefl.fleet import signature
    from edgefl.fleet.bundle import Bundle

    old, out = Bundle.load(bundle_directory(site)), kept_out(site)
    signature.sign(old, opened(site))  # another authority may have taken over since hosts got it
    return Move(site, inventory, tuple(device.name for device in inventory.devices if device.name not in out), old, new)


async def _fitness(move: Move, names: Sequence[str]) -> AsyncIterator[Progress]:
    from edgefl.fleet import preflight

    hosts = Inventory(tuple(host for host in move.fleet.hosts if host.name in names))
    async for event in chained(preflight.check(move.site, hosts, bundle=move.new)):
        yield event
    async with watching(move.site) as monitor:  # without it nobody could say whether a wave is well
        await monitor.status(updates=False)


async def _rolled_out(move: Move, lock: SiteLock, canaries: int | None, *, action: str = "upgrade") -> AsyncIterator[Progress]:
    """Wave after wave, then the coordinator; every host that has the new version gets the old one back when one is not well."""
    began = time.monotonic()
    plan = waves.waves(move.devices, canaries or move.site.upgrade.canary)
    what = f"{move.old.version} → {move.new.version} in {len(plan)} waves: {', '.join(str(len(wave)) for wave in plan)} devices"
    yield Started(STAGE, "", what, total=len(plan), detail=_said(move))
    touched: list[str] = []
    try:
        for number, wave in enumerate(plan, 1):
            touched += wave
            async for event in chained(_wave(move, wave, touched, f"wave {number}")):
                yield event
        async with lock.loosened():  # a run may go on for hours, and a device must be cut off at once
            async for event in chained(_run_awaited(move.site)):
                yield event
        touched.append(move.fleet.coordinator.name)
        async for event in chained(move.put(move.new, [move.fleet.coordinator.name], away=1)):
            yield event
    except EdgeflError as bad:
        yield Failed(STAGE, "", f"version {move.new.version} is not well", why=bad.what, hint=bad.hint)
        versions.hold(move.site, f"{move.new.version} was not well")  # whatever comes now, `up` brings the old one
        async for event in chained(_taken_back(move, touched)):
            yield event
        await _told(move.site, f"{action} taken back", move, why=bad.what)
        raise RolledBack(
            f"{move.new.version} was taken back, and hosts run {move.old.version} again: {bad.what}",
            hint="edgefl logs says more; edgefl upgrade tries again",
        ) from bad
    await _told(move.site, action, move)
    what = f"every host runs {move.new.version}"
    yield Finished(STAGE, "", what, changed=True, seconds=time.monotonic() - began, detail=_said(move))


async def _wave(move: Move, wave: Sequence[str], upgraded: Sequence[str], name: str) -> AsyncIterator[Progress]:
    """One wave, and the rounds that show whether the federation is well with it. Raises Unhealthy, and what `put` raises."""
    began = time.monotonic()
    async with watching(move.site) as monitor:
        before = (await monitor.status()).state
        yield Started(STAGE, name, ", ".join(wave))
        async for event in chained(move.put(move.new, wave, away=move.away(wave, before))):
            yield event
        rounds = await _awaited(monitor, before, move.site)
        worse = list(waves.ailments(_last(before, move.site.upgrade.rounds), rounds, upgraded, move.site.upgrade))
    if worse:
        raise Unhealthy("; ".join(worse), hint="edgefl rounds")
    seen = f"{len(rounds)} rounds as well as before" if rounds else "services ready, devices online; no run is going"
    yield Finished(STAGE, name, seen, changed=True, seconds=time.monotonic() - began, detail={"devices": list(wave)})


async def _awaited(monitor: MonitorClient, before: FederationState, site: Site) -> list[RoundRow]:
    """The rounds that ended after the wave, as many as the site wants to see, or those that the run still had."""
    state = (await monitor.status()).state
    if before.run is None or not _training(state) or state.run is None or state.run.id != before.run.id:
        return []
    after, wanted = max((row.number for row in state.rounds), default=0), site.upgrade.rounds
    try:
        async with asyncio.timeout(site.upgrade.patience_s):
            stream = cast("AsyncGenerator[Any, None]", monitor.events(state.seq))
            async with aclosing(stream) as events:
                async for event in events:
                    if not isinstance(event.body, RoundFinished | RoundSkipped | RunFinished):
                        continue
                    state = (await monitor.status()).state
                    ended = waves.settled(state.rounds, after)
                    if len(ended) >= wanted or not _training(state):
                        return ended
    except TimeoutError:
        raise Unhealthy(f"no {wanted} rounds ended within {site.upgrade.patience_s:.0f} s", hint="edgefl rounds") from None
    return []


async def _run_awaited(site: Site) -> AsyncIterator[Progress]:
    """The coordinator's services restart with a new version, and a run would end with them: it is awaited."""
    async with watching(site) as monitor:
        state = (await monitor.status(updates=False)).state
        if state.run is None or not _training(state):
            return
        yield Started(STAGE, "coordinator", f"waits for the end of run {state.run.id}: `edgefl stop` ends it earlier")
        async with aclosing(cast("AsyncGenerator[Any, None]", monitor.events(state.seq))) as events:
            async for event in events:
                if isinstance(event.body, RunFinished) and event.run == state.run.id:
                    return


async def _taken_back(move: Move, touched: Sequence[str]) -> AsyncIterator[Progress]:
    """The old version on every host that got the new one, and is not in quarantine; hosts have kept it, so nothing travels."""
    out = kept_out(move.site)
    touched = [name for name in touched if name not in out]
    yield Started(STAGE, "rollback", f"{', '.join(touched)} back to {move.old.version}")
    devices = len(move.devices)
    away = waves.batch(devices, move.site.run.needed(devices), len(touched), is_training=True)
    async for event in chained(move.put(move.old, touched, away=away, tolerated=100)):
        yield event
    yield Finished(STAGE, "rollback", f"{len(touched)} hosts run {move.old.version} again", changed=True)


async def _told(site: Site, action: str, move: Move, why: str = "") -> None:
    async with watching(site) as monitor:
        await monitor.append(OperatorAction(who="", action=action, subject=site.name, why=why[:500], detail=_said(move)))


def _settle(site: Site, to: Path | None) -> None:
    """A version that was chosen stays until the next upgrade; this edgefl's own is what `up` builds by itself."""
    if to is None:
        versions.release(site)
    else:
        versions.hold(site, "it was chosen by `edgefl upgrade --to`")


def _said(move: Move) -> dict[str, Any]:
    return {"from": move.old.version, "to": move.new.version}


def _training(state: FederationState) -> bool:
    return state.run is not None and state.run.status == "running"


def _last(state: FederationState, count: int) -> list[RoundRow]:
    """The last rounds of the run that is going that count."""
    return [row for row in state.rounds if row.state == "finished"][-count:]
