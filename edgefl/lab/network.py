"""The lab's network: a bridge that bears the operator's address, and one port of it for each host's eth0.

The port's end stays in the capsule, out of the host's reach: rates, cuts and partitions are made there. Interface names are
`port-N` and `ifb-N`, where N counts the host's address within the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

BRIDGE = "lab0"
_ULA = IPv6Address("fd77:edf1::")
_BURST_MS = 10
_BUFFER_MS = 50


@dataclass(frozen=True, slots=True)
class Link:
    """What a host's link can do; rates in Mbit/s (None is unlimited), `latency_ms` in each direction."""

    uplink_mbit: float | None = None
    downlink_mbit: float | None = None
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Port:
    """Where one host is plugged in."""

    host: str
    address: IPv4Interface

    @classmethod
    def of(cls, host: str, address: str, network: IPv4Interface) -> Port:
        """The port of the host with that address; ValueError when the network has no such address for a host."""
        place = IPv4Address(address)
        if place not in network.network or place in (
            network.ip,
            network.network.network_address,
            network.network.broadcast_address,
        ):
            raise ValueError(f"{address} is no address for a host of {network.network} (the operator's is {network.ip})")
        return cls(host, IPv4Interface((place, network.network.prefixlen)))

    @property
    def number(self) -> int:
        """The host's place in the network: 11 for 10.77.0.11/24."""
        return int(self.address.ip) - int(self.address.network.network_address)

    @property
    def interface(self) -> str:
        """The capsule's end of the host's link."""
        return f"port-{self.number}"

    @property
    def uplink(self) -> str:
        """The intermediate device through which the host's outgoing packets pass when they are limited."""
        return f"ifb-{self.number}"


def ula(address: IPv4Address) -> IPv6Address:
    """The IPv6 address that goes with a lab's IPv4 address: fd77:edf1::10.77.0.11 for 10.77.0.11."""
    return IPv6Address(int(_ULA) + int(address))


def bridge_script(network: IPv4Interface) -> str:
    """Shell: the capsule's network when it starts. No route leads out of it."""
    return f"""
ip link set lo up
ip link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0
ip link set {BRIDGE} address {_mac(network.ip, side=0)} up
ip address add {network} dev {BRIDGE}
{_ipv6(f"ip address add {ula(network.ip)}/64 dev {BRIDGE} nodad")}
ip netns add first && ip netns delete first  # sets /run/netns up: the first `add` is not safe beside another one
nft add table bridge lab
nft 'add set bridge lab parted {{ type ifname . ifname; }}'
nft 'add chain bridge lab forward {{ type filter hook forward priority 0; }}'
nft add rule bridge lab forward iifname . oifname @parted drop
"""


def veth_script(port: Port) -> str:
    """Shell: plug the host in by a veth pair."""
    return f"""
{unplug_script(port)}
ip link add {port.interface} type veth peer name eth0 netns {port.host}
{_address_script(port)}
"""


def tap_script(port: Port) -> str:
    """Shell: give the two TAP interfaces of a running `wire` the places that a veth pair's ends have."""
    return _address_script(port)


def unplug_script(port: Port) -> str:
    """Shell: take the host's link away, and make sure that its network namespace exists.

    An `ip netns` that was ended half way leaves a name that stands for no namespace: it is made anew.
    """
    return f"""
if [ "$(stat --file-system --format %T /run/netns/{port.host} 2>&1)" != nsfs ]; then
  rm -f /run/netns/{port.host}
  ip netns add {port.host}
fi
ip -n {port.host} link set lo up
for old in {port.interface} {port.uplink}; do
  [ ! -e /proc/sys/net/ipv4/conf/$old ] || ip link delete $old
done
"""


def rates_script(port: Port, link: Link) -> str:
    """Shell: limit the rates of a fresh veth link: towards the host on its port, from the host on an ifb device."""
    down, up = port.interface, port.uplink
    script = ""
    if link.downlink_mbit is not None:
        script += f"tc qdisc add dev {down} root {_token_bucket(link.downlink_mbit)}\n"
    if link.uplink_mbit is not None:
        script += f"""
ip link add {up} type ifb
ip link set {up} up
tc qdisc add dev {up} root {_token_bucket(link.uplink_mbit)}
{_redirect_script(port)}
"""
    return script


def netem_script(port: Port, link: Link) -> str:
    """Shell: give a veth link its delay and rates by netem (a kernel that has it delays and shapes in one queue)."""
    return f"""
tc qdisc add dev {port.interface} root {_netem(link.latency_ms, link.downlink_mbit)}
ip link add {port.uplink} type ifb
ip link set {port.uplink} up
tc qdisc add dev {port.uplink} root {_netem(link.latency_ms, link.uplink_mbit)}
{_redirect_script(port)}
"""


def remove_script(port: Port) -> str:
    """Shell: nothing of the host's network remains."""
    return f"""
{unplug_script(port)}
ip netns delete {port.host}
"""


def partition_rules(a: Port, b: Port, *, parted: bool) -> str:
    """nft: from now on the two hosts hear nothing of each other, or hear each other again. Right however often it is said."""
    pairs = f"{{ {_quoted(a)} . {_quoted(b)}, {_quoted(b)} . {_quoted(a)} }}"
    added = f"add element bridge lab parted {pairs}\n"
    return added if parted else f"{added}delete element bridge lab parted {pairs}\n"


def wire_arguments(port: Port, link: Link) -> list[str]:
    """What `wire` needs to know: the host's namespace, the port, bits per second up and down, and the delay in seconds."""
    up, down = ((rate or 0) * 1e6 for rate in (link.uplink_mbit, link.downlink_mbit))
    return [port.host, port.interface, f"{up:.0f}", f"{down:.0f}", f"{link.latency_ms / 1000:.6f}"]


def _address_script(port: Port) -> str:
    """Both ends up and addressed. Fixed hardware addresses: a link that is made anew is no new neighbour to anyone."""
    inside = f"ip -n {port.host}"
    return f"""
ip link set {port.interface} address {_mac(port.address.ip, side=0)} master {BRIDGE} up
{inside} link set eth0 address {_mac(port.address.ip, side=1)} up
{inside} address replace {port.address} dev eth0
{_ipv6(f"{inside} address replace {ula(port.address.ip)}/64 dev eth0 nodad")}
"""


def _redirect_script(port: Port) -> str:
    """What comes from the host passes through the ifb device first."""
    return f"""
tc qdisc add dev {port.interface} ingress
tc filter add dev {port.interface} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev {port.uplink}
"""


def _netem(delay_ms: float, rate_mbit: float | None) -> str:
    return f"netem limit 10000 delay {delay_ms:g}ms" + ("" if rate_mbit is None else f" rate {rate_mbit * 1e6:.0f}bit")


def _ipv6(command: str) -> str:
    return f"[ ! -e /proc/net/if_inet6 ] || {command}"


def _mac(address: IPv4Address, *, side: int) -> str:
    """A locally administered unicast address (IEEE 802): 02, the side of the link, the IPv4 address."""
    return ":".join(f"{byte:02x}" for byte in (0x02, side, *address.packed))


def _token_bucket(rate_mbit: float) -> str:
    bits = rate_mbit * 1e6
    burst_bytes = max(int(bits * _BURST_MS / 8000), 3000)
    return f"tbf rate {bits:.0f}bit burst {burst_bytes} latency {_BUFFER_MS}ms"


def _quoted(port: Port) -> str:
    return f'"{port.interface}"'
