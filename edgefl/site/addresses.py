"""Which address each lab host gets: a pure function of the site, so that nothing has to remember it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import chain

from edgefl.site import tunnel
from edgefl.site.model import Site
from edgefl.site.section import Address

COORDINATOR = 10
"""The coordinator's place in the network; devices follow it in the site's order, and the host that watches stands below it."""


def assign(site: Site) -> dict[str, Address]:
    """Every host's address by name, the coordinator first.

    An address that the site names stays; a lab host without one gets the next free one from .10 (coordinator) or .11 (devices)
    up; who watches from .9 down, to stay where it is while devices come and go. Raises ValueError when the network is too small,
    which `load` has ruled out.
    """
    chosen = {host.name: host.address for host in site.hosts if host.address is not None}
    if len(chosen) == len(site.hosts):
        return {host.name: chosen[host.name] for host in site.hosts}
    network = site.infrastructure.network
    try:
        if site.watcher is not None and site.watcher.name not in chosen:
            chosen[site.watcher.name] = next(_below(network.network, {network.ip, *chosen.values()}))
        free = _free(network.network, {network.ip, *chosen.values()})
        return {host.name: chosen.get(host.name) or next(free) for host in site.hosts}
    except StopIteration:
        raise ValueError(f"{network.network} holds fewer than {len(site.hosts)} hosts") from None


def known(site: Site) -> Mapping[str, Address]:
    """What is known of the hosts' addresses before there are hosts, by name."""
    if site.infrastructure.module == "lab":
        try:
            return assign(site)
        except ValueError:  # the network is too small, and that is said elsewhere
            return {}
    return {host.name: host.address for host in site.hosts if host.address is not None}


def tunnelled(site: Site) -> Mapping[str, Address]:
    """Every host's address in the tunnel by name, the coordinator's the first; empty where the site has none."""
    wanted = site.isolation.tunnel
    names = tuple(device.name for device in site.devices)
    return tunnel.addresses(wanted.network, site.coordinator.name, names) if wanted else {}


def room(site: Site) -> int:
    """How many hosts the lab's network holds beside the operator."""
    return max(0, site.infrastructure.network.network.num_addresses - 3)


def _below(network: IPv4Network, taken: set[Address]) -> Iterator[IPv4Address]:
    """Addresses that nobody has, from the one below the coordinator's place down."""
    for offset in range(min(COORDINATOR, network.num_addresses - 1) - 1, 0, -1):
        if (address := network.network_address + offset) not in taken:
            yield address


def _free(network: IPv4Network, taken: set[Address]) -> Iterator[IPv4Address]:
    """Addresses that nobody has, from the coordinator's place up, then the ones below it."""
    size = network.num_addresses
    first = min(COORDINATOR, size)
    for offset in chain(range(first, size - 1), range(1, min(first, size - 1))):
        address = network.network_address + offset
        if address not in taken:
            yield address
