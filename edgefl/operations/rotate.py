"""Give hosts new keys and certificates now, while a run goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence

from edgefl.operations.lock import site_lock
from edgefl.operations.reporting import report_certificates
from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory, inventory_of, kept_out
from edgefl.progress import Progress, Warned
from edgefl.site.model import Site

PLAYBOOK = "rotate.yml"


async def rotate(site: Site, names: Sequence[str] = ()) -> AsyncIterator[Progress]:
    """Replace every key and certificate of the named hosts (none: of all); services take them up without losing a round.

    It is the way back for a device that slept past its certificate's end, too: the operator reaches it by SSH, not by that.
    A device in quarantine gets nothing. Raises NotProvisioned, HostUnknown and what configuring hosts raises; what was renewed
    until then is in use.
    """
    from edgefl.fleet import ansible
    from edgefl.fleet.bundle import Bundle
    from edgefl.fleet.hosts import select

    inventory = inventory_of(site)
    out = () if names else kept_out(site)
    chosen = [host.name for host in select(inventory, names) if host.name not in out]
    with site_lock(site, "certs rotate"):
        package = Bundle.load(bundle_directory(site))  # none of it is sent; the inventory that Ansible gets names it
        async for event in chained(ansible.converge(site, inventory, package, PLAYBOOK, limit=chosen)):
            yield event
        for warning in unread(site, chosen):
            yield warning
        async for event in chained(report_certificates(site, "rotate", names or [site.name])):
            yield event


def unread(site: Site, chosen: Collection[str]) -> Iterator[Warned]:
    """What is not read any more where the host that reads was among the chosen ones, and watched devices were not."""
    reader = (site.watcher or site.coordinator).name
    left = [device.name for device in site.devices if device.name not in chosen]
    if site.observability.devices and reader in chosen and left:
        what = f"Prometheus shows another certificate now, which {', '.join(left)} will know at the next up"
        yield Warned("certs rotate", reader, what, hint="edgefl up")
