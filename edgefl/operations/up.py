"""From a site to a converged, proven fleet: each stage takes what the one before it left.

Every stage is safe to repeat and changes nothing the second time, so a run that was cut short anywhere goes on with the
same command.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefl.errors import EdgeflError
from edgefl.infra.inventory import Inventory
from edgefl.operations import members
from edgefl.operations.deeds import noted_when_it_fails
from edgefl.operations.interruption import spared
from edgefl.operations.lock import site_lock
from edgefl.operations.quarantine import keep_apart
from edgefl.operations.reporting import report_fleet
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_file, kept_out, known_hosts, opened, passphrase
from edgefl.operations.task import prove_task
from edgefl.operations.versions import gathered
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned
from edgefl.site import load, made
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.fleet.bundle import Bundle


async def up(site: Site, *, why: str = "", now: bool = False) -> AsyncIterator[Progress]:
    """Provision the site: bundle, hosts, identities, configuration, proof.

    why: the reason, for the audit log. now: also where that ends the run that is going; else that raises RunGoing, and nothing is
    done. Raises the EdgeflError of the stage that failed; the monitor is told of a proof that failed before that. Cancelled
    anywhere, the next call goes on.
    """
    from edgefl.fleet import bundle
    from edgefl.lab.machine import demand

    changes = members.changes(site, known_hosts(site))
    async for event in chained(prove_task(site)):
        yield event
    if site.infrastructure.module == "lab":
        demand()
    with site_lock(site, "up"), noted_when_it_fails(site, "up", why=why):
        async for event in chained(gathered(site)):
            yield event
        package = bundle.Bundle.load(bundle_directory(site))
        if not now:
            async for event in chained(spared(site, package)):
                yield event
        known = known_hosts(site)
        async for event in chained(members.part(site, known, changes), infrastructure(site, package)):
            yield event
        site = _as_made(site)
        # Whom the operator's own module made no more, only its apply could tell.
        gone = members.part(site, known, members.changes(site, known) if site.asks_module else members.Changes())
        coming = members.renounced(site, changes.replaced)
        async for event in chained(gone, certificates(site), coming, _configured(site, package, why)):
            yield event


async def _configured(site: Site, package: Bundle, why: str) -> AsyncIterator[Progress]:
    """Configure and prove every host that is fit and not kept out."""
    from edgefl.fleet import ansible, preflight, signature

    await asyncio.to_thread(lambda: signature.sign(package, opened(site)))
    whole = Inventory.load(inventory_file(site))
    out = kept_out(site)
    async for event in chained(keep_apart(site, [host for host in whole.hosts if host.name in out])):
        yield event
    inventory = Inventory(tuple(host for host in whole.hosts if host.name not in out))
    fit: list[str] = []
    facts: dict[str, Mapping[str, Any]] = {}
    unfit: dict[str, str] = {}
    async for event in chained(preflight.check(site, inventory, fit, bundle=package)):
        facts[event.subject] = event.detail
        if isinstance(event, Failed):
            unfit[event.subject] = event.why
        yield event
    fleet = Inventory(tuple(host for host in inventory.hosts if host.name in fit))
    converged = False
    async for event in chained(ansible.converge(site, whole, package, limit=fit)):
        converged = converged or (isinstance(event, Finished) and event.changed)
        yield event
    reported = report_fleet(site, fleet, facts, converged=converged, unfit=unfit, why=why)
    async for event in chained(_proven(site, fleet, reported)):
        yield event


def _as_made(site: Site) -> Site:
    """The site with the devices that its module made; only now can what depends on their number be checked."""
    return load(site.root) if site.asks_module else site


async def _proven(site: Site, fleet: Inventory, reported: AsyncIterator[Progress]) -> AsyncIterator[Progress]:
    """Prove the isolation, and report what stands: also where it is not isolated, before that is raised."""
    from edgefl.fleet import proof

    try:
        async for event in chained(proof.verify(site, fleet)):
            yield event
    except proof.NotIsolated:
        try:
            async for event in chained(reported):
                yield event
        except EdgeflError as error:
            yield Warned("journal", "", f"does not know of this proof: {error.what}", hint=error.hint)
        raise
    async for event in chained(reported):
        yield event


async def infrastructure(site: Site, package: Bundle) -> AsyncIterator[Progress]:
    """Make or adopt the hosts, and write down which there are."""
    from edgefl.infra.inventory import inventory_from, made_devices
    from edgefl.infra.terraform import Terraform

    if site.infrastructure.module == "lab":
        async for event in chained(lab_ground(site, package.path)):
            yield event
    terraform = Terraform(site)
    async for event in chained(terraform.apply()):
        yield event
    outputs = await terraform.outputs()
    if site.asks_module:
        site = site.having(made_devices(outputs, site))
        made.keep(site, site.devices)
    inventory_from(outputs, site).save(inventory_file(site))


async def lab_ground(site: Site, package: Path) -> AsyncIterator[Progress]:
    """Have the lab's image, and the layer above it that already holds the bundle's wheels."""
    from edgefl.lab.command import interrupt
    from edgefl.lab.hosts import Lab
    from edgefl.lab.image import image
    from edgefl.lab.preload import preload

    heard: asyncio.Queue[Progress | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def prepare() -> None:
        def report(event: Progress) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, event)

        try:
            layer = preload(image(report=report), package, report=report)
            Lab(site.state / "lab", site.infrastructure.network).use_layer(layer)
        finally:
            loop.call_soon_threadsafe(heard.put_nowait, None)

    work = asyncio.create_task(asyncio.to_thread(prepare))
    try:
        while (event := await heard.get()) is not None:
            yield event
        await work
    finally:
        if not work.done():
            interrupt()


async def certificates(site: Site) -> AsyncIterator[Progress]:
    """Have the site's own authority and the operator's identity; hosts get theirs while they are configured.

    What was certified so that something watches is revoked where the site asks for it no more; hosts learn that with the rest.
    """
    from edgefl.pki.enrolment import unwanted
    from edgefl.pki.operator import ensure_operator
    from edgefl.pki.register import UNWANTED

    began = time.monotonic()
    yield Started("certificates", "", "the site's own authority")
    fresh = not (site.state / "pki" / "root.crt").exists()
    authority = await asyncio.to_thread(opened, site)
    await asyncio.to_thread(lambda: ensure_operator(site, passphrase=passphrase()))
    ended = unwanted(site, authority.certificates())
    for entry in ended:
        authority.revoke(entry.serial, UNWANTED)
    for subject, role in dict.fromkeys((entry.subject, entry.role) for entry in ended):
        yield Step("certificates", subject, f"its certificate as {role} is revoked: {UNWANTED}", changed=True)
    what = "authority made; its root key stays on this machine" if fresh else "authority and operator stand"
    expires = authority.issuing.not_valid_after_utc.isoformat()
    took, detail = time.monotonic() - began, {"issuing_expires": expires}
    yield Finished("certificates", "", what, changed=fresh or bool(ended), seconds=took, detail=detail)
