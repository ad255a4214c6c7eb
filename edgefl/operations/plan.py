"""What `up` would do, and nothing done: infrastructure, configuration and certificates as one plan."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError
from edgefl.infra.inventory import Inventory, prospective
from edgefl.operations import members
from edgefl.operations.interruption import foreseen, restarted, uprooted
from edgefl.operations.lock import site_lock
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, kept_out, known_hosts
from edgefl.operations.task import prove_task
from edgefl.operations.versions import gathered
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Step, Warned
from edgefl.site.model import Site
from edgefl.site.observability import SUBJECT

if TYPE_CHECKING:
    from edgefl.infra.changes import Change

Renewals = Mapping[tuple[str, str], str]
"""Why a certificate would be renewed, by role and name."""


async def plan(site: Site) -> AsyncIterator[Progress]:
    """Every change that `up` would make, as a Step with `changed`; no host, certificate or Terraform state changes.

    A Step's detail has what differs: `before` and `after` (Terraform), `diff` (Ansible). Configuration is Ansible's check mode,
    so it needs hosts that stand: the others are said to be configured whole. What it compares with (the bundle, the rendered
    inventory) is made anew in `.edgefl/`, so it takes the site's lock. Raises what `up` would raise, after all parts are shown.
    """
    from edgefl.fleet import wheels

    async for event in chained(prove_task(site)):
        yield event
    for warning in wheels.foreseen(site):
        yield warning
    with site_lock(site, "plan"):
        async for event in chained(_planned(site), _budgets(site)):
            yield event


async def _planned(site: Site) -> AsyncIterator[Progress]:
    from edgefl.infra.terraform import Terraform

    terraform = Terraform(site)
    async for event in chained(terraform.plan()):
        yield event
    known = known_hosts(site)
    for event in (*leaving(members.changes(site, known)), *_ending(site)):
        yield event
    there, standing = existing_hosts(site, known, terraform.changes)
    fleet = prospective(site, known)
    out = kept_out(site)
    checked: list[str] = []
    renewed: dict[tuple[str, str], str] = {}
    endings = list(uprooted(site, terraform.changes))
    failed: EdgeflError | None = None
    try:
        if fleet is None or site.coordinator.name not in standing or not _has_authority(site):
            async for event in chained(_whole(site, there)):
                yield event
        else:
            checked = [name for name in standing if name not in out]
            async for event in chained(_checked(site, fleet, there, checked, out)):
                renewed |= _renewed(event)
                endings += restarted(site, event)
                yield event
    except EdgeflError as error:
        failed = error
    async for event in chained(_certificates(site, there, checked, renewed, out), foreseen(site, endings)):
        yield event
    if failed is not None:
        raise failed


def existing_hosts(site: Site, known: Inventory, changes: Collection[Change]) -> tuple[list[str], list[str]]:
    """The site's hosts that exist and would not be made anew, and those of them that can be looked at: they are not off."""
    there = {host.name for host in known.hosts} - {change.name for change in changes if change.action != "update"}
    up = there - {change.name for change in changes if not change.leaves_it_up}
    return [host.name for host in site.hosts if host.name in there], [host.name for host in site.hosts if host.name in up]


def leaving(changes: members.Changes) -> Iterator[Step]:
    """Who would be seen off, and whose certificates would end because it comes with new hardware."""
    for host in changes.left:
        first = "watch no more" if host.role == "watcher" else "finish its round"
        what = f"would {first} and leave; its certificates would be revoked"
        yield Step(members.STAGE, host.name, what, changed=True)
    for name in changes.replaced:
        yield Step(members.STAGE, name, "comes with new hardware: the old one's certificates would be revoked", changed=True)


def _ending(site: Site) -> Iterator[Step]:
    """Which certificates would end because site.yaml asks no more for what watched with them."""
    from edgefl.pki.enrolment import unwanted
    from edgefl.pki.register import UNWANTED, Register

    entries = Register(site.state / "pki" / "index.jsonl").entries()
    for subject, role in dict.fromkeys((entry.subject, entry.role) for entry in unwanted(site, entries)):
        yield Step("certificates", subject, f"its certificate as {role} would be revoked: {UNWANTED}", changed=True)


async def _whole(site: Site, there: Collection[str]) -> AsyncIterator[Progress]:
    """The configuration's part of a plan that cannot be checked: the coordinator and the authority come before everything."""
    began = time.monotonic()
    yield Started("configuration", "", "what hosts would be given")
    for host in site.hosts:
        what = "exists, and would be configured again" if host.name in there else _MISSING
        yield Step("configuration", host.name, what, changed=True)
    if not site.devices:
        yield Step("configuration", "", "the devices that the module makes would be configured whole", changed=True)
    what = f"{len(site.hosts)} hosts would be configured whole" if site.devices else "every host would be configured whole"
    yield Finished("configuration", "", what, changed=True, seconds=time.monotonic() - began)


async def _checked(
    site: Site, fleet: Inventory, there: Collection[str], standing: list[str], out: Collection[str]
) -> AsyncIterator[Progress]:
    """The configuration's part: every host that stands is compared, one that is missing would be configured whole.

    out: the devices in quarantine, which are left as they are.
    """
    from edgefl.fleet import ansible, bundle

    for host in fleet.hosts:
        if host.name in out:
            yield Warned("configuration", host.name, IN_QUARANTINE, hint=f"edgefl release {host.name} --why TEXT")
        elif host.name not in there:
            yield Step("configuration", host.name, _MISSING, changed=True)
        elif host.name not in standing:
            yield Warned("configuration", host.name, "does not run; what it lacks shows once it does")
    async for event in chained(gathered(site)):
        yield event
    package = bundle.Bundle.load(bundle_directory(site))
    async for event in chained(ansible.converge(site, fleet, package, limit=standing, check=True, diff=True)):
        yield event


IN_QUARANTINE = "is in quarantine, and is left as it is"
_MISSING = "does not exist yet, and would be configured whole"


def _has_authority(site: Site) -> bool:
    """Whether there is one: a check opens it, and would make it where it is missing."""
    return all((site.state / "pki" / f"{name}.crt").exists() for name in ("root", "issuing"))


def _renewed(event: Progress) -> Renewals:
    """What the check of a host's identity found: the reason by role."""
    return {(role, event.subject): why for role, why in event.detail.get("renewed", {}).items()}


async def _certificates(
    site: Site, there: Collection[str], checked: Collection[str], renewed: Renewals, out: Collection[str]
) -> AsyncIterator[Progress]:
    """Which certificates `up` would issue. checked: the hosts whose own certificates were looked at, as `renewed` says."""
    from edgefl.pki.lifetime import RENEWED_AFTER
    from edgefl.pki.operator import operator_name, why_due
    from edgefl.pki.register import Register

    began = time.monotonic()
    yield Started("certificates", "", "what would be issued")
    entries = Register(site.state / "pki" / "index.jsonl").entries() if _has_authority(site) else []
    by = datetime.now(UTC) + timedelta(hours=site.certificates.leaf_hours) * (1 - RENEWED_AFTER)
    lasting = {(entry.role, entry.subject) for entry in entries if not entry.is_revoked and entry.expires > by}
    if not _has_authority(site):
        yield Step("certificates", site.name, "the site's own authority would be made", changed=True)
    due = [one for one in due_certificates(site, there, checked, renewed, lasting) if one[1] not in out]
    if why := why_due(site):
        due.append(("operator", operator_name(), why))
    for role, name, why in due:
        what = f"its {role} certificate for {_life(site, role)} would be issued: {why}"
        yield Step("certificates", name, what, changed=True)
    what = f"{len(due)} would be issued" if due else "all are valid"
    yield Finished("certificates", "", what, changed=bool(due), seconds=time.monotonic() - began)


def _life(site: Site, role: str) -> str:
    """How long a certificate of this role serves."""
    from edgefl.pki.lifetime import days as days_of

    days = days_of(role, site.certificates)
    return f"{days} days" if days else f"{site.certificates.leaf_hours} h"


def due_certificates(
    site: Site, there: Collection[str], checked: Collection[str], renewed: Renewals, lasting: Collection[tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    """The hosts' certificates that would be issued: role, name and why.

    there: the hosts that exist. lasting: role and name of what the register calls valid for long enough; that alone counts where
    a host exists and could not be asked.
    """
    hub = site.coordinator.name
    exporting = ("exporter",) if site.observability.devices else ()
    of_devices = [(role, device.name) for device in site.devices for role in ("device", "signer", *exporting)]
    reading = [("scraper", (site.watcher or site.coordinator).name)] if site.observability.prometheus else []
    reading += [("metrics", hub)] if site.watcher else []
    for role, name in (("renewal", hub), ("gate", hub), ("superlink", hub), *reading, *of_devices):
        if name not in there:
            yield role, name, "its host does not exist yet"
        elif name in checked:
            if why := renewed.get((role, name)):
                yield role, name, why
        elif (role, SUBJECT if role == "scraper" else name) not in lasting:
            yield role, name, "none is valid for long enough"


async def _budgets(site: Site) -> AsyncIterator[Progress]:
    """What the next run would cost each device, where there is a monitor that knows; without one nothing is spent yet."""
    from edgefl.operations.budgets import unlasting

    if site.privacy.mode == "none" or not known_hosts(site).hosts:
        return
    began = time.monotonic()
    yield Started("budgets", "", "whose privacy budget ends before the next run does")
    try:
        async with watching(site, renew=False) as monitor:
            state = (await monitor.status(updates=False)).state
    except EdgeflError as error:
        yield Finished("budgets", "", f"not known: {error.what}", seconds=time.monotonic() - began)
        return
    short = list(unlasting(site, state, site.run.rounds, "budgets"))
    for warning in short:
        yield warning
    budgets = len(site.devices) if site.privacy.mode == "dp-sgd" else 1
    what = f"{len(short)} of {budgets} do not last {site.run.rounds} rounds" if short else "all last the run"
    yield Finished("budgets", "", what, seconds=time.monotonic() - began)
