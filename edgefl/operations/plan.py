"""What `up` would do, and nothing done: infrastructure, certificates and configuration as one plan."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from edgefl.errors import EdgeflError
from edgefl.infra.inventory import Inventory
from edgefl.operations.lock import site_lock
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_file
from edgefl.operations.task import prove_task
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site.model import Site

_RENEWED_WITHIN = 1 / 3
"""Share of a certificate's life that may be left before `up` renews it."""


async def plan(site: Site) -> AsyncIterator[Progress]:
    """Every change that `up` would make, as a Step with `changed`; no host, certificate or Terraform state changes.

    Configuration is Ansible's check mode with diff, so it needs hosts that stand; for those that do not, the plan says so. What
    it compares with (the bundle, the rendered inventory) is made anew in `.edgefl/`, so it takes the site's lock.
    """
    await prove_task(site)
    with site_lock(site, "plan"):
        async for event in chained(_planned(site), _budgets(site)):
            yield event


async def _planned(site: Site) -> AsyncIterator[Progress]:
    from edgefl.fleet import ansible, bundle
    from edgefl.infra.terraform import Terraform

    terraform = Terraform(site)
    async for event in chained(terraform.plan(), _certificates(site)):
        yield event
    created = {change.name for change in terraform.changes if change.action == "create"}
    if not inventory_file(site).exists() or created:
        count = len(created) or len(site.hosts)
        yield Finished("configuration", "", f"{count} hosts do not stand yet; each would be configured whole", changed=True)
        return
    async for event in chained(bundle.build(site, bundle_directory(site))):
        yield event
    package = bundle.Bundle.load(bundle_directory(site))
    inventory = Inventory.load(inventory_file(site))
    async for event in chained(ansible.converge(site, inventory, package, check=True, diff=True)):
        yield event


async def _budgets(site: Site) -> AsyncIterator[Progress]:
    """What the next run would cost each device, where there is a monitor that knows; without one nothing is spent yet."""
    from edgefl.operations.budgets import unlasting

    if site.privacy.mode == "none" or not inventory_file(site).exists():
        return
    began = time.monotonic()
    yield Started("budgets", "", "whose privacy budget ends before the next run does")
    try:
        async with watching(site) as monitor:
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


async def _certificates(site: Site) -> AsyncIterator[Progress]:
    from datetime import UTC, datetime, timedelta

    from edgefl.pki.register import Register

    began = time.monotonic()
    yield Started("certificates", "", "what would be issued")
    due = datetime.now(UTC) + timedelta(hours=site.certificates.leaf_hours) * _RENEWED_WITHIN
    entries = Register(site.state / "pki" / "index.jsonl").entries()
    valid = {(entry.role, entry.subject) for entry in entries if not entry.is_revoked and entry.expires > due}
    wanted = [("gate", site.coordinator.name), ("superlink", site.coordinator.name), *(("device", d.name) for d in site.devices)]
    missing = [pair for pair in wanted if pair not in valid]
    if not (site.state / "pki" / "root.crt").exists():
        yield Step("certificates", site.name, "the site's own authority would be made", changed=True)
    for role, name in missing:
        yield Step(
            "certificates", name, f"a {role} certificate for {site.certificates.leaf_hours} h would be issued", changed=True
        )
    what = f"{len(missing)} would be issued" if missing else "all are valid"
    yield Finished("certificates", "", what, changed=bool(missing), seconds=time.monotonic() - began)
