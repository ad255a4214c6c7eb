"""site.yaml's `isolation.tunnel`: devices reach the coordinator through WireGuard, which needs no way to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from edgefl.site.section import Address, Model, Port

_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""Networks that nobody owns (RFC 1918, RFC 6598)."""
_SMALLEST = 16
"""Prefix of the smallest network in which addresses that follow from names keep out of each other's way."""


def _roomy(network: IPv4Network) -> IPv4Network:
    if network.prefixlen <= _SMALLEST and any(map(network.subnet_of, _PRIVATE)):
        return network
    raise PydanticCustomError("tunnel_network", "a private IPv4 network of /16 or larger, e.g. 10.213.0.0/16")


class Tunnel(Model):
    """A WireGuard tunnel from each device to the coordinator, for devices behind NAT; devices reach the gate by it alone."""

    port: Port = 51820
    """The coordinator's UDP port."""
    endpoint: Address | None = None
    """Where devices find that port, e.g. the address of a router that forwards it; none means the coordinator's own address."""
    network: Annotated[IPv4Network, AfterValidator(_roomy)] = IPv4Network("10.213.0.0/16")
    """Private network of the tunnel's addresses, /16 or larger; each host takes one of them and no route but to the other end."""


def told(said: Any) -> Any:
    """The settings where the word alone says that there is a tunnel."""
    if isinstance(said, str):
        if said == "wireguard":
            return Tunnel()
        raise PydanticCustomError("tunnel", "wireguard, or a section with its settings")
    return said


@lru_cache(maxsize=4)
def addresses(network: IPv4Network, coordinator: str, devices: tuple[str, ...]) -> Mapping[str, IPv4Address]:
    """Every host's address in the tunnel, the coordinator's the first: a function of the name, so that nobody remembers it.

    Who joins or leaves moves nobody else, but for two names drawn to one place: the later of them in the alphabet has the next.
    """
    chosen = {coordinator: network.network_address + 1}
    free, taken = range(2, network.num_addresses - 1), set[int]()
    for name in sorted(devices):
        place = int.from_bytes(sha256(name.encode()).digest()[:8], "big") % len(free)
        while place in taken:
            place = (place + 1) % len(free)
        taken.add(place)
        chosen[name] = network.network_address + free[place]
    return chosen
