"""What an operation did or found, told to the journal, so that every console sees it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgefl.errors import EdgeflError
from edgefl.events.schema import (
    Body,
    CertificateIssued,
    CertificateRevoked,
    DeviceFacts,
    DeviceFitness,
    DeviceState,
    OperatorAction,
)
from edgefl.infra.inventory import Inventory
from edgefl.monitor.state import FederationState
from edgefl.operations.deeds import pending
from edgefl.operations.remember import remember
from edgefl.operations.renewals import learn
from edgefl.operations.state import kept_out
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Warned
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.fleet.evidence import Proof

STAGE = "journal"
_NAMING = {"type", "device"}
"""What says which device an event is of, and not what it is."""


async def report_fleet(
    site: Site,
    inventory: Inventory,
    facts: Mapping[str, Mapping[str, Any]],
    *,
    converged: bool,
    unfit: Mapping[str, str] | None = None,
    why: str = "",
) -> AsyncIterator[Progress]:
    """Tell the monitor which devices there are, what they may do and for how long; only what it does not know yet.

    unfit: why each device that is not in `inventory` was left out, by name.
    """
    from edgefl.fleet import evidence

    began = time.monotonic()
    yield Started(STAGE, "", "tell the monitor what stands")
    async with watching(site) as monitor:
        await learn(site, monitor)
        known = (await monitor.status(updates=False)).state
        news: list[Body] = [*_facts(inventory, facts, known), *_certificates(site, known), *standings(site, known)]
        named = {device.name for device in site.devices}  # of the host that watches, no round knows
        left_out = {name: why for name, why in (unfit or {}).items() if name in named}
        reasons = {**{device.name: "" for device in inventory.devices}, **left_out}
        news += [DeviceFitness(device=name, why=why) for name, why in reasons.items() if _unfit(known, name) != why]
        if (latest := evidence.latest(site.state)) is not None:
            news += latest.events(inventory.hosts)
        if converged or why:
            detail = {"hosts": len(inventory.hosts), "changed": converged}
            news.append(OperatorAction(who="", action="up", subject=site.name, why=why, detail=detail))
        untold = list(pending(site))
        news += [event for _, event in untold]
        if news:
            await monitor.append(*news)
        for path, _ in untold:
            path.unlink(missing_ok=True)
        await remember(site, monitor)
    yield Finished(STAGE, "", f"{len(news)} events" if news else "nothing new", seconds=time.monotonic() - began)


async def report_certificates(site: Site, action: str, subjects: Sequence[str]) -> AsyncIterator[Progress]:
    """Tell the monitor which certificates an operation issued, and who had it done.

    A monitor that cannot be told is only warned about: the next `up` tells it.
    """
    began = time.monotonic()
    try:
        async with watching(site) as monitor:
            await learn(site, monitor)
            known = (await monitor.status(updates=False)).state
            news: list[Body] = [*_certificates(site, known)]
            news.append(OperatorAction(who="", action=action, subject=", ".join(subjects)))
            await monitor.append(*news)
    except EdgeflError as error:
        yield Warned(STAGE, "", f"does not know of these certificates: {error.what}", hint="edgefl up tells it later")
        return
    yield Finished(STAGE, "", f"{len(news)} events", seconds=time.monotonic() - began)


async def report_standing(
    site: Site, action: str, subjects: Sequence[str], why: str, *, released: Collection[str] = ()
) -> AsyncIterator[Progress]:
    """Tell the monitor who is kept out and who is not any more, and who did what to whom; only what it does not know yet.

    released: devices that are to be taken back also where the policy alone keeps them out of rounds.
    A monitor that cannot be told is only warned about: the authority's register says it, and the next `up` tells it.
    """
    began = time.monotonic()
    try:
        async with watching(site) as monitor:
            await learn(site, monitor)
            known = (await monitor.status(updates=False)).state
            news = [*_certificates(site, known), *standings(site, known, released)]
            if news:
                news += [OperatorAction(who="", action=action, subject=subject, why=why) for subject in subjects]
                await monitor.append(*news)
    except EdgeflError as error:
        yield Warned(STAGE, "", f"does not know of it: {error.what}", hint="edgefl up tells it")
        return
    yield Finished(STAGE, "", f"{len(news)} events" if news else "nothing new", seconds=time.monotonic() - began)


def standings(site: Site, known: FederationState, released: Collection[str] = ()) -> Iterable[Body]:
    """What the authority's register says of revocations and quarantines, as far as the monitor knows it otherwise."""
    from edgefl.pki.register import Register

    entries = {entry.serial: entry for entry in Register(site.state / "pki" / "index.jsonl").entries()}
    for held in known.certificates.values():
        entry = entries.get(held.serial)
        if entry is not None and entry.is_revoked and not held.revoked:
            yield CertificateRevoked(subject=entry.subject, serial=entry.serial, reason=entry.reason)
    out = kept_out(site)
    for device in site.devices:
        row = known.devices.get(device.name)
        standing, conduct = (row.standing, row.conduct) if row is not None else ("", "")
        is_set_aside = conduct == "quarantined" and device.name in released
        if device.name in out and standing != "quarantined":
            yield DeviceState(device=device.name, state="quarantined", detail=out[device.name].reason)
        elif device.name not in out and (standing == "quarantined" or is_set_aside):
            yield DeviceState(device=device.name, state="enrolled", detail="released from quarantine")
        elif device.name not in out and standing == "removed":
            yield DeviceState(device=device.name, state="enrolled", detail="is in the site again")


async def report_proof(site: Site, inventory: Inventory) -> AsyncIterator[Progress]:
    """Tell the monitor what the last proof found; a monitor that cannot be told is only warned about, as the proof is kept."""
    from edgefl.fleet import evidence

    began = time.monotonic()
    if (latest := evidence.latest(site.state)) is None:
        return
    news: list[Body] = [*latest.events(inventory.hosts)]
    probed = {"probes": len(latest.results), "breaches": len(latest.breaches), "sha256": latest.sha256}
    news.append(OperatorAction(who="", action="verify", subject=_hosts(latest, inventory), detail=probed))
    try:
        async with watching(site) as monitor:
            await monitor.append(*news)
    except EdgeflError as error:
        yield Warned(STAGE, "", f"does not know of this proof: {error.what}", hint=error.hint)
        return
    yield Finished(STAGE, "", f"has the proof of {len(news) - 1} hosts", seconds=time.monotonic() - began)


def _hosts(proof: Proof, inventory: Inventory) -> str:
    """Whom a proof is about, in words."""
    probed = [host.name for host in inventory.hosts if proof.of(host.name)]
    return "every host" if len(probed) == len(inventory.hosts) else ", ".join(probed)


def _facts(inventory: Inventory, facts: Mapping[str, Mapping[str, Any]], known: FederationState) -> Iterable[DeviceFacts]:
    for device in inventory.devices:
        if (found := facts.get(device.name)) is None:
            continue
        said = DeviceFacts(
            device=device.name,
            architecture=str(found["architecture"]),
            cores=float(found["cores"]),
            memory_mb=int(found["memory_mb"]),
            address=device.address,
            release=str(found["release"]),
            distribution=str(found.get("distribution", "")),
            accelerators=list(found.get("accelerators", ())),
        )
        row = known.devices.get(device.name)
        if row is None or any(_plain(getattr(row, name)) != value for name, value in said.model_dump(exclude=_NAMING).items()):
            yield said


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _unfit(known: FederationState, device: str) -> str:
    row = known.devices.get(device)
    return row.unfit if row is not None else ""


def _certificates(site: Site, known: FederationState) -> Iterable[CertificateIssued]:
    from edgefl.pki.register import Entry, Register

    told = {certificate.serial for certificate in known.certificates.values()}
    latest: dict[tuple[str, str], Entry] = {}
    for entry in Register(site.state / "pki" / "index.jsonl").entries():
        known_as = latest.get((entry.role, entry.subject))
        is_newer = known_as is None or entry.begins >= known_as.begins
        if is_newer and not entry.is_revoked and entry.expires > datetime.now(UTC):
            latest[entry.role, entry.subject] = entry
    for entry in latest.values():
        if entry.serial not in told:
            yield CertificateIssued(
                subject=entry.subject,
                role=entry.role,
                serial=entry.serial,
                issuer=entry.issuer,
                key_sha256=entry.key,
                not_before=datetime.fromisoformat(entry.not_before),
                not_after=entry.expires,
            )
