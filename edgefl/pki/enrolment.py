"""Who may have an identity at all: the site's own hosts, each in its own role and under its own addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from edgefl.pki.errors import CsrRefused
from edgefl.pki.profiles import Role
from edgefl.pki.register import Entry
from edgefl.site.addresses import assign, tunnelled
from edgefl.site.model import Site
from edgefl.site.observability import SUBJECT


def check(site: Site, name: str, role: Role, addresses: Sequence[str]) -> list[IPv4Address | IPv6Address]:
    """The addresses of a host that the site enrols as `name` in `role`; CsrRefused when it does not.

    Devices are those of site.yaml, as signers and exporters too; the coordinator alone is gate and SuperLink, and where a host of
    its own watches, what that host reads (`metrics`) as well; operators and scrapers are no hosts. An address is the one that
    site.yaml gives the host, or where it gives none (the lab, a module of the operator's own) any but another host's; or the
    host's own in the site's tunnel.
    """
    hosts = [device.name for device in site.devices] if role in ("device", "signer", "exporter") else [site.coordinator.name]
    if role == "metrics" and site.watcher is None:
        hosts = []
    is_host = role not in ("operator", "scraper")
    if is_host and name not in hosts:
        what = f"{name} is no {role} of {site.name}: enrolled are {', '.join(hosts) or 'none'}"
        raise CsrRefused(what, hint="name it in site.yaml, then edgefl up")
    if not is_host and name in {host.name for host in site.hosts}:
        raise CsrRefused(f"{name} is a host of {site.name}, so it gets no {role}'s certificate", hint="choose another name")
    return [_own(site, name, address) for address in addresses]


def unwanted(site: Site, entries: Iterable[Entry]) -> list[Entry]:
    """What was certified so that something watches, and site.yaml asks for no more; scrapers of the operator's own stay."""
    watch = site.observability
    asked = {"scraper": watch.prometheus, "exporter": watch.devices, "metrics": site.watcher is not None}
    own = (one for one in entries if one.role != "scraper" or one.subject == SUBJECT)
    return [one for one in own if not one.is_revoked and not asked.get(one.role, True)]


def _own(site: Site, name: str, address: str) -> IPv4Address | IPv6Address:
    try:
        given = ip_address(address)
    except ValueError as error:
        raise CsrRefused(f"{name}'s address {address!r} is no IP address", hint=f"give {name} one in site.yaml") from error
    inside = tunnelled(site)
    if inside.get(name) == given:
        return given
    known = {host.name: host.address for host in site.hosts if host.address is not None}
    if (named := known.get(name)) is not None and given != named:
        raise CsrRefused(f"{name} has the address {named} in site.yaml, not {given}", hint="edgefl up adopts it where it is")
    taken = {**known, **assign(site)} if site.infrastructure.module == "lab" else known
    owner = next((host for host, taken_by in (*taken.items(), *inside.items()) if host != name and taken_by == given), None)
    if owner is not None:
        raise CsrRefused(f"{given} is {owner}'s address, not {name}'s", hint="every host needs its own address in site.yaml")
    return given
