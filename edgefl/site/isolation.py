"""site.yaml's `isolation`: what each role may reach beside what edgefl itself needs."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from edgefl.site.host import Role
from edgefl.site.section import Address, Model, Port
from edgefl.site.tunnel import Tunnel, told

Network = IPv4Network | IPv6Network
_RANGE = "^[0-9]{1,5}-[0-9]{1,5}$"
_PORTS = re.compile("([0-9]{1,5})(?:-([0-9]{1,5}))?")


def _network(said: Any) -> Any:
    """An address or a network, told apart from an address that bears a network's size."""
    if isinstance(said, Network):
        return said
    try:
        meant = ip_interface(str(said))
    except ValueError as error:
        raise PydanticCustomError("address_or_network", "an IP address or a network, e.g. 192.0.2.7 or 192.0.2.0/28") from error
    if meant.ip == meant.network.network_address:
        return meant.network
    both = {"network": str(meant.network), "host": str(meant.ip)}
    raise PydanticCustomError("host_bits", "{network} (the network) or {host} (the one host)", both)


def _ports(said: Any) -> str:
    """One port or a range, as nftables writes it."""
    if found := _PORTS.fullmatch("" if isinstance(said, bool) else str(said)):
        first, last = int(found[1]), int(found[2] or found[1])
        if 1 <= first <= last <= 65535:
            return f"{first}-{last}" if last > first else f"{first}"
    raise PydanticCustomError("port_or_range", "a port from 1 to 65535, or a range of them, e.g. 11112-11115")


class Allowance(Model):
    """One way out that the site opens."""

    address: Annotated[Network, BeforeValidator(_network, json_schema_input_type=str)]
    """An IP address or a network (CIDR). Where a task reaches, data can be sent: name the one host rather than its network."""
    port: Annotated[str, BeforeValidator(_ports, json_schema_input_type=Port | Annotated[str, StringConstraints(pattern=_RANGE)])]
    """One port, or a range, e.g. 11112-11115."""
    protocol: Literal["tcp", "udp"] = "tcp"
    """Its protocol."""
    by: Literal["task", "host"] = "task"
    """`task`: the account that runs the task's code, no other; `host`: every account but edgefl's (updates, mail)."""

    def __str__(self) -> str:
        where = f"[{self.where}]" if ":" in self.where else self.where
        return f"{where}:{self.port}/{self.protocol}"

    @property
    def where(self) -> str:
        """The address, or the network with its size."""
        return str(self.address.network_address) if self.address.num_addresses == 1 else str(self.address)

    @property
    def ports(self) -> range:
        """Every port that it opens."""
        first, _, last = self.port.partition("-")
        return range(int(first), int(last or first) + 1)

    def covers(self, address: Address, port: int, protocol: str) -> bool:
        """Whether a path is one of those that it opens."""
        return protocol == self.protocol and port in self.ports and address in self.address

    def within(self, other: Allowance) -> bool:
        """Whether another one opens everything that this one does."""
        mine, its = self.address, other.address
        return (
            (self.protocol, self.by, mine.version) == (other.protocol, other.by, its.version)
            and mine.network_address in its
            and mine.broadcast_address in its
            and self.ports[0] in other.ports
            and self.ports[-1] in other.ports
        )


class Isolation(Model):
    """What each role may reach; everything else is dropped, in both directions."""

    operator_addresses: list[Address] = Field(default_factory=list)
    """From where SSH and the monitor are reachable; the lab uses its own operator address. Required by `static`."""
    dns: list[Address] = Field(default_factory=list)
    """Resolvers that hosts may ask, edgefl's own accounts not among them; none by default."""
    time_servers: list[Address] = Field(default_factory=list)
    """NTP servers that hosts may ask; none by default."""
    device: list[Allowance] = Field(default_factory=list)
    """What devices may reach beside the coordinator, e.g. an image archive: `[{address: 192.0.2.7, port: 11112}]`. For the task's
    account (it holds the data; the SuperNode's, which holds the identity, never gets any) or the host's own. None by default."""
    coordinator: list[Allowance] = Field(default_factory=list)
    """The same for the coordinator, e.g. a mail relay for its own services: `[{address: 192.0.2.25, port: 25, by: host}]`."""
    watcher: list[Allowance] = Field(default_factory=list)
    """The same for the host that watches, where the site has one: `[{address: 192.0.2.25, port: 587, by: host}]` for alerts."""
    tunnel: Annotated[Tunnel | None, BeforeValidator(told, json_schema_input_type=Literal["wireguard"] | Tunnel | None)] = None
    """`wireguard`, or its settings, e.g. `{endpoint: 203.0.113.7}`: devices reach the gate through a tunnel alone, from behind
    NAT, too. None by default."""

    def of(self, role: Role) -> list[Allowance]:
        """What a role may reach beside what edgefl needs."""
        return {"device": self.device, "coordinator": self.coordinator, "watcher": self.watcher}[role]
