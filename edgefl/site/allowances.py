"""What `isolation` may not allow: an opening that leaves nothing isolated, or leads to the site's own hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from itertools import chain
from typing import Literal, get_args

from edgefl.site.addresses import known
from edgefl.site.host import Role
from edgefl.site.isolation import Allowance, Network
from edgefl.site.model import Site
from edgefl.site.modes import Mistake
from edgefl.site.section import Address
from edgefl.site.source import Location

WIDEST: Mapping[Literal[4, 6], int] = {4: 8, 6: 32}
"""Prefix of the widest network that can be meant: the largest private IPv4 network (RFC 1918), one provider's whole IPv6."""
_LOOPBACK, _CLOUD, _NONE = "the host itself", "link-local, where clouds hand out credentials", "no host's address"
_NOBODYS: Mapping[Network, str] = {
    ip_network(block): why
    for why, blocks in {
        _LOOPBACK: ("127.0.0.0/8", "::1/128"),
        _CLOUD: ("169.254.0.0/16", "fe80::/10"),
        _NONE: ("0.0.0.0/8", "224.0.0.0/3", "::/128", "::ffff:0:0/96", "ff00::/8"),
    }.items()
    for block in blocks
}
_SSH = 22


def openings(site: Site) -> Iterator[tuple[Location, Allowance]]:
    """Every allowance with its place."""
    for role in get_args(Role):
        yield from ((("isolation", role, index), one) for index, one in enumerate(site.isolation.of(role)))


def destinations(site: Site) -> Iterator[Mistake]:
    """A destination is a host or a network of hosts somewhere else, not everything and not oneself."""
    for location, one in openings(site):
        place: Location = (*location, "address")
        if one.address.prefixlen < WIDEST[one.address.version]:
            whole = "every address there is" if one.address.prefixlen == 0 else f"{one.address.num_addresses:,} addresses"
            what = f"{one.address} is {whole}: a host that may reach them is not isolated"
            widest = WIDEST[one.address.version]
            yield place, what, f"name the hosts that are needed, or their own networks (/{widest} or smaller), one entry each"
        elif why := _nobodys(one.address):
            yield place, f"{one.where} {_is_or_holds(one)} {why}", "the address of a host, e.g. 192.0.2.7"


def repetitions(site: Site) -> Iterator[Mistake]:
    """What is said once is not said again: who takes one entry out must not leave the way open by another."""
    for role in get_args(Role):
        listed = site.isolation.of(role)
        for index, one in enumerate(listed):
            for other in range(index):
                if one.within(listed[other]) or listed[other].within(one):
                    what = f"{one} and {listed[other]} (isolation.{role}[{other}]) open the same way"
                    yield ("isolation", role, index), what, "keep the one that is meant"
                    break


def known_hosts(site: Site) -> Iterator[Mistake]:
    """No allowance leads to a host of the site, as far as their addresses are known before there are hosts."""
    yield from own_hosts(site, known(site))


def own_hosts(site: Site, addresses: Mapping[str, Address]) -> Iterator[Mistake]:
    """No allowance leads to a host of the site. addresses: of the hosts, by name."""
    for location, one in openings(site):
        place: Location = (*location, "address")
        name = next((name for name, address in addresses.items() if address in one.address), None)
        owner = f"{one.where} {_is_or_holds(one)} {name}" + (
            f" ({addresses[name]})" if name and one.address.num_addresses > 1 else ""
        )
        if name == site.coordinator.name:
            what = f"{owner}, of which a SuperNode reaches the fleet port, and nobody anything else"
            yield place, what, "leave it out: what devices need of the coordinator is open by itself"
        elif site.watcher is not None and name == site.watcher.name:
            yield place, f"{owner}, and nobody but the operator reaches the host that watches", "name the other hosts one by one"
        elif name is not None:
            yield place, f"{owner}, and no host of the site reaches a device", "name the other hosts one by one, without it"
        elif any(one.covers(address, _SSH, "tcp") for address in _operators(site)):
            what = f"{one} is the operator's SSH, from where every host is administered"
            yield place, what, "another port, or another machine"


def _is_or_holds(one: Allowance) -> str:
    return "is" if one.address.num_addresses == 1 else "holds"


def _operators(site: Site) -> Iterator[Address]:
    lab = [site.infrastructure.network.ip] if site.infrastructure.module == "lab" else []
    return chain(lab, site.isolation.operator_addresses)


def _nobodys(network: Network) -> str:
    """Why no other host's address may be meant; empty where one may."""
    return next((why for block, why in _NOBODYS.items() if block.version == network.version and block.overlaps(network)), "")
