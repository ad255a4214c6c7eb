"""What each user of each host may reach and what not: the matrix that a proof must confirm, as a pure function of the site.

Everything that is not needed is forbidden, so the forbidden side is a sample: of every kind of destination at least one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

from edgefl import layout
from edgefl.fleet.tunnel import endpoint, gate_address
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.addresses import tunnelled
from edgefl.site.isolation import Allowance
from edgefl.site.model import Site
from edgefl.site.section import Address

Protocol = Literal["tcp", "udp", "icmp"]
Kind = Literal["service", "coordinator", "peers", "internet", "dns", "loopback", "operator", "allowed"]
KINDS: tuple[Kind, ...] = ("service", "coordinator", "peers", "internet", "dns", "loopback", "operator", "allowed")
Expected = Literal["open", "closed", "allowed"]
"""`allowed`: no wall of this host may stand there; whether anyone answers is not this site's affair."""
LISTENER_PORT = 47443
"""Every host listens here while probes run and no rule allows it: a path that connects is open beyond doubt."""
OPERATOR = "operator"
"""The host and user of a probe that the operator's own process makes."""
INTERNET = ("192.0.2.1", "2001:db8::1")
"""Documentation networks (RFC 5737, RFC 3849): routed like the internet, but nobody's."""
METADATA = ("169.254.169.254", "fd00:ec2::254")
"""Where clouds hand out credentials."""
MULTICAST_DNS = "224.0.0.251"
"""Whoever is on the same wire answers there (RFC 6762): names of neighbours, and a way to them."""
_WAYS_OUT: tuple[tuple[Protocol, int], ...] = (("tcp", 443), ("udp", 443), ("icmp", 0))
WATCHING = (layout.PROMETHEUS_PORT, layout.ALERTMANAGER_PORT, layout.NODE_EXPORTER_PORT)
"""What watches answers on its host's loopback; on the coordinator the account that runs the task's code may not ask there."""
_PEERS_AT_MOST = 16
"""Each device probes its next neighbours in the site's order, so that every device is probed by as many."""
_STRANGER = "nobody"
"""Any local user that is not edgefl's."""
_BY: Mapping[str, str] = {
    **dict.fromkeys((layout.USER_APP, layout.USER_SERVER), "task"),
    **dict.fromkeys((_STRANGER, "root", layout.USER_WATCH), "host"),
}
"""Whom an allowance means by its `by`: the accounts that run the task's code, or those that are not edgefl's."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One path: `user` on `host` tries `address`:`port`. `target` is the destination's name; ICMP has port 0."""

    host: str
    user: str
    protocol: Protocol
    target: str
    address: str
    port: int
    expected: Expected
    kind: Kind

    @property
    def id(self) -> str:
        """The path's name, the same in every proof of the site."""
        return f"{self.host}/{self.user} → {self.protocol} {self.destination}"

    @property
    def destination(self) -> str:
        """The destination as it is shown."""
        return f"{self.target}:{self.port}" if self.port else self.target


def matrix(site: Site, inventory: Inventory, addresses6: Mapping[str, Sequence[str]] | None = None) -> tuple[Probe, ...]:
    """Every path that the proof tries, each once.

    addresses6: the hosts' IPv6 addresses by name, as the hosts themselves told them.
    """
    found = [*_coordinator(site, inventory, addresses6 or {}), *_operator(site, inventory)]
    for host in inventory.devices:
        found += _device(site, inventory, host, addresses6 or {})
    if (watcher := _watcher(site, inventory)) is not None:
        found += _watching(site, inventory, watcher, addresses6 or {})
    hosts = {host.name: host for host in inventory.hosts}
    # A resolver, or what stands for the internet, may be what the site opens; a host of the site never is.
    found = [p for p in found if p.kind not in ("dns", "internet") or not _is_opened(site, hosts[p.host], p)]
    return tuple({probe.id: probe for probe in found}.values())


def _device(site: Site, inventory: Inventory, host: Host, addresses6: Mapping[str, Sequence[str]]) -> Iterator[Probe]:
    node, app = layout.USER_NODE, layout.USER_APP
    fleet = _gate(site, inventory, host)
    runtime = _loopback(host, layout.SUPERNODE_PORT)
    yield from _allow([fleet], node)
    yield from _allow([runtime], app)
    around = list(_surroundings(site, inventory, host, addresses6))
    others = [*_coordinator_ports(site, inventory, host, addresses6), *_around_the_tunnel(site, inventory, host)]
    local = _loopback(host, host.port)
    yield from _forbid([*around, *others, local], node)
    yield from _forbid([*around, *others, local, fleet], app)
    strangers = _unnamed(site, around)
    yield from _forbid([*strangers, *others, fleet, runtime], _STRANGER)
    yield from _forbid([probe for probe in strangers if probe.kind != "operator"], "root")
    exporting = [layout.USER_EXPORTER] if site.observability.devices else []
    for user in exporting:
        yield from _forbid([*around, *others, local, fleet, runtime], user)
        answers = _loopback(host, layout.NODE_EXPORTER_PORT)
        yield from (probe for own in (node, app, _STRANGER) for probe in _forbid([answers], own))
    yield from _allowances(site, inventory, host, (node, app, *exporting, _STRANGER, "root"))


def _coordinator(site: Site, inventory: Inventory, addresses6: Mapping[str, Sequence[str]]) -> Iterator[Probe]:
    host = inventory.coordinator
    link = _loopback(host, layout.SUPERLINK_PORT)
    for user in (layout.USER_GATE, layout.USER_MONITOR, layout.USER_SERVER):
        yield from _allow([link], user)
    around = list(_surroundings(site, inventory, host, addresses6))
    services = (layout.USER_LINK, layout.USER_SERVER, layout.USER_MONITOR, layout.USER_GATE)
    for user in services:
        yield from _forbid(around, user)
    outside = Probe(host.name, "", "tcp", host.name, host.address, layout.SUPERLINK_PORT, "closed", "coordinator")
    strangers = _unnamed(site, around)
    # Where a host of its own watches, this account still runs what tells of the coordinator, and reads nobody.
    watching = [layout.USER_WATCH] if site.observability.prometheus else []
    reading = [] if site.watcher else watching
    for user in (_STRANGER, *watching):
        yield from _forbid([*strangers, link, outside], user)
    for user in reading:
        yield from _allow([_loopback(host, layout.API_PORT)], user)
        yield from (probe for port in WATCHING for probe in _forbid([_loopback(host, port)], layout.USER_SERVER))
    everybody = (*services, *watching, _STRANGER, "root")
    if site.observability.devices:
        exporters = [_exporter(host, device) for device in inventory.devices]
        yield from (probe for user in reading for probe in _allow(exporters, user))
        yield from (probe for user in everybody if user not in reading for probe in _forbid(exporters, user))
    if _watcher(site, inventory) is not None:
        answers = [_loopback(host, layout.NODE_EXPORTER_PORT)]
        yield from _allow(answers, layout.USER_GATE)
        yield from (probe for user in everybody if user != layout.USER_GATE for probe in _forbid(answers, user))
    yield from _forbid([probe for probe in strangers if probe.kind != "operator"], "root")
    yield from _allowances(site, inventory, host, everybody)


def _watcher(site: Site, inventory: Inventory) -> Host | None:
    """The host that watches, where the site has one and it is there."""
    return inventory.watcher if site.watcher else None


def _watching(site: Site, inventory: Inventory, host: Host, addresses6: Mapping[str, Sequence[str]]) -> Iterator[Probe]:
    """What the host that watches reaches: by one account the gate and the devices' exporters, by no other anybody."""
    read = inventory.devices if site.observability.devices else ()
    paths = [_coordinator_port(inventory, host, layout.API_PORT), *(_exporter(host, one) for one in read)]
    ports = [_coordinator_port(inventory, host, port) for port in (layout.FLEET_PORT, LISTENER_PORT)]
    ports += _coordinator_ports(site, inventory, host, addresses6)
    opened = {(path.protocol, path.address, path.port) for path in paths}
    around = [*_unnamed(site, _surroundings(site, inventory, host, addresses6)), *ports]
    around = [probe for probe in around if (probe.protocol, probe.address, probe.port) not in opened]
    yield from _allow(paths, layout.USER_WATCH)
    yield from _forbid(around, layout.USER_WATCH)
    yield from _forbid([*around, *paths], _STRANGER)
    yield from _forbid([probe for probe in (*around, *paths) if probe.kind != "operator"], "root")
    yield from _allowances(site, inventory, host, (layout.USER_WATCH, _STRANGER, "root"))


def _operator(site: Site, inventory: Inventory) -> Iterator[Probe]:
    """What the operator's machine reaches: SSH everywhere and the monitor; from there every host's ingress is tried."""
    for host in inventory.hosts:
        yield _inbound(host, host.port, "open")
        yield _inbound(host, LISTENER_PORT, "closed")
    yield _inbound(inventory.coordinator, layout.API_PORT, "open")
    watching = WATCHING if site.observability.prometheus else ()
    for port in (layout.FLEET_PORT, layout.SUPERLINK_PORT, *watching):
        yield _inbound(inventory.coordinator, port, "closed")
    if (watcher := _watcher(site, inventory)) is not None:
        yield from (_inbound(watcher, port, "closed") for port in watching)
    for host in inventory.devices:
        yield _inbound(host, layout.SUPERNODE_PORT, "closed")
        if site.observability.devices:
            yield _inbound(host, layout.NODE_EXPORTER_PORT, "closed")


def _allowances(site: Site, inventory: Inventory, host: Host, users: Sequence[str]) -> Iterator[Probe]:
    """What the site opens and what lies right beside it, tried by every user: open for whom it is meant, and for nobody else."""
    own = {ip_address(one.address) for one in inventory.hosts}
    paths = dict.fromkeys(path for one in site.isolation.of(host.role) for path in _beside(one))
    for protocol, address, port in paths:
        if address in own:
            continue  # hosts of the site have probes of their own
        shown = f"[{address}]" if address.version == 6 else str(address)
        for user in users:
            probe = Probe(host.name, user, protocol, shown, str(address), port, "closed", "allowed")
            if _is_opened(site, host, probe):
                yield replace(probe, expected="allowed")
            elif _BY.get(user) != "host" or not _is_named(site, address, port):
                yield probe


def _beside(one: Allowance) -> Iterator[tuple[Protocol, Address, int]]:
    """The ends of what an allowance opens, then the paths next to them: ports, the other protocol, an address."""
    network, first, last = one.address, one.ports[0], one.ports[-1]
    address = network.network_address if network.num_addresses == 1 else network.network_address + 1
    for port in (first, last, first - 1, last + 1):
        if 0 < port < 65536:
            yield one.protocol, address, port
    yield "udp" if one.protocol == "tcp" else "tcp", address, first
    yield one.protocol, network.broadcast_address + 1, first


def _is_opened(site: Site, host: Host, probe: Probe) -> bool:
    """Whether the site allows the probe's user to go where it goes."""
    address, by = ip_address(probe.address), _BY.get(probe.user)
    return any(one.by == by and one.covers(address, probe.port, probe.protocol) for one in site.isolation.of(host.role))


def _is_named(site: Site, address: Address, port: int) -> bool:
    """Whether the host's own services may ask there, for a name or for the time."""
    return (port == 53 and address in site.isolation.dns) or (port == 123 and address in site.isolation.time_servers)


def _misdirected(site: Site, host: Host, address: str) -> list[int]:
    """Ports of the allowances that a host of the site lies in by an address that site.yaml does not have."""
    allowed = site.isolation.of(host.role)
    return [one.ports[0] for one in allowed if one.protocol == "tcp" and ip_address(address) in one.address]


def _surroundings(site: Site, inventory: Inventory, host: Host, addresses6: Mapping[str, Sequence[str]]) -> Iterator[Probe]:
    """What none of edgefl's users may reach, on any host: other devices, the internet, resolvers, the operator."""
    peers = _neighbours(site, inventory, host)
    # The coordinator's accounts try them one by one, since one of them may.
    exporter = [layout.NODE_EXPORTER_PORT] if site.observability.devices and host.role == "device" else []
    for peer in peers:
        answering = WATCHING if peer.role == "watcher" else exporter
        for address in (peer.address, *addresses6.get(peer.name, ())):
            for port in (peer.port, LISTENER_PORT, *answering, *_misdirected(site, host, address)):
                yield Probe(host.name, "", "tcp", _named(peer.name, address), address, port, "closed", "peers")
    for peer in peers[:1]:
        for address in (peer.address, *addresses6.get(peer.name, ())[:1]):
            shown = _named(peer.name, address)
            yield Probe(host.name, "", "icmp", shown, address, 0, "closed", "peers")
            yield Probe(host.name, "", "udp", shown, address, LISTENER_PORT, "closed", "peers")
    inside = tunnelled(site)
    for peer in (peer for peer in peers if peer.name in inside and host.role != "watcher"):
        for port in (peer.port, LISTENER_PORT):
            yield Probe(host.name, "", "tcp", _inside(peer.name), str(inside[peer.name]), port, "closed", "peers")
    yield Probe(host.name, "", "udp", "neighbours (multicast DNS)", MULTICAST_DNS, 5353, "closed", "peers")
    yield from _outside(host)
    operators = list(dict.fromkeys(_operator_addresses(site)))
    resolvers = {inventory.coordinator.name: inventory.coordinator.address} if host.role != "coordinator" else {}
    resolvers |= {_named("internet", address): address for address in INTERNET} | {
        f"operator {address}": address for address in operators[:1]
    }
    resolvers |= {f"resolver {address}": str(address) for address in site.isolation.dns}
    for name, address in resolvers.items():
        yield Probe(host.name, "", "udp", f"DNS at {name}", address, 53, "closed", "dns")
        yield Probe(host.name, "", "tcp", f"DNS at {name}", address, 53, "closed", "dns")
    for address in operators:
        yield Probe(host.name, "", "tcp", f"operator {address}", address, 22, "closed", "operator")


def _outside(host: Host) -> Iterator[Probe]:
    """The internet by every protocol and both families, and what clouds answer a host of theirs."""
    for address in INTERNET:
        for protocol, port in _WAYS_OUT:
            yield Probe(host.name, "", protocol, _named("internet", address), address, port, "closed", "internet")
    for address in METADATA:
        yield Probe(host.name, "", "tcp", _named("metadata service", address), address, 80, "closed", "internet")


def _named(name: str, address: str) -> str:
    """A destination as it is shown."""
    return f"{name} (IPv6)" if ":" in address else name


def _neighbours(site: Site, inventory: Inventory, host: Host) -> list[Host]:
    devices, watcher = list(inventory.devices), _watcher(site, inventory)
    at = devices.index(host) if host.role == "device" else -1
    others = [*devices[at + 1 :], *devices[: max(at, 0)]][:_PEERS_AT_MOST]
    return [*others, *([watcher] if watcher and watcher != host else [])]


def _operator_addresses(site: Site) -> Iterator[str]:
    if site.infrastructure.module == "lab":
        yield str(site.infrastructure.network.ip)
    yield from (str(address) for address in site.isolation.operator_addresses)


def _unnamed(site: Site, probes: Iterable[Probe]) -> list[Probe]:
    """Without the resolvers that the site names: the host's own services may ask those."""
    named = {str(address) for address in site.isolation.dns}
    return [probe for probe in probes if probe.kind != "dns" or probe.address not in named]


def _coordinator_ports(site: Site, inventory: Inventory, host: Host, addresses6: Mapping[str, Sequence[str]]) -> Iterator[Probe]:
    """Every port of the coordinator's that is not for devices, and all of its IPv6."""
    to = inventory.coordinator
    exporter = [layout.NODE_EXPORTER_PORT] if _watcher(site, inventory) else []
    for port in (layout.API_PORT, layout.SUPERLINK_PORT, to.port, *exporter):
        yield _coordinator_port(inventory, host, port)
    yield Probe(host.name, "", "udp", to.name, to.address, layout.FLEET_PORT, "closed", "coordinator")
    yield Probe(host.name, "", "icmp", to.name, to.address, 0, "closed", "coordinator")
    for address in addresses6.get(to.name, ()):
        for port in (to.port, LISTENER_PORT, *_misdirected(site, host, address)):
            yield Probe(host.name, "", "tcp", f"{to.name} (IPv6)", address, port, "closed", "coordinator")


def _gate(site: Site, inventory: Inventory, host: Host) -> Probe:
    """The fleet port as devices reach it: in the tunnel, where the site has one."""
    outside = _coordinator_port(inventory, host, layout.FLEET_PORT)
    if site.isolation.tunnel is None:
        return outside
    return replace(outside, target=_inside(outside.target), address=gate_address(site, inventory))


def _around_the_tunnel(site: Site, inventory: Inventory, host: Host) -> Iterator[Probe]:
    """Where there is a tunnel: the fleet port beside it, the coordinator's other ports through it, and its own port by others."""
    if (wanted := site.isolation.tunnel) is None:
        return
    to, address = inventory.coordinator, gate_address(site, inventory)
    yield Probe(host.name, "", "tcp", to.name, to.address, layout.FLEET_PORT, "closed", "coordinator")
    for port in (layout.API_PORT, layout.SUPERLINK_PORT, to.port, LISTENER_PORT):
        yield Probe(host.name, "", "tcp", _inside(to.name), address, port, "closed", "coordinator")
    yield Probe(host.name, "", "icmp", _inside(to.name), address, 0, "closed", "coordinator")
    yield Probe(host.name, "", "udp", "the tunnel's end", endpoint(site, inventory), wanted.port, "closed", "coordinator")


def _inside(name: str) -> str:
    """A host as it is shown where it is reached through the tunnel."""
    return f"{name} (tunnel)"


def _coordinator_port(inventory: Inventory, host: Host, port: int) -> Probe:
    to = inventory.coordinator
    kind: Kind = "service" if port == layout.FLEET_PORT else "coordinator"
    return Probe(host.name, "", "tcp", to.name, to.address, port, "closed", kind)


def _exporter(host: Host, device: Host) -> Probe:
    """Where a device is watched, as another host tries it."""
    return Probe(host.name, "", "tcp", device.name, device.address, layout.NODE_EXPORTER_PORT, "closed", "service")


def _loopback(host: Host, port: int) -> Probe:
    return Probe(host.name, "", "tcp", "localhost", "127.0.0.1", port, "closed", "loopback")


def _inbound(host: Host, port: int, expected: Expected) -> Probe:
    return Probe(OPERATOR, OPERATOR, "tcp", host.name, host.address, port, expected, "operator")


def _allow(probes: Iterable[Probe], user: str) -> Iterator[Probe]:
    return (replace(probe, user=user, expected="open") for probe in probes)


def _forbid(probes: Iterable[Probe], user: str) -> Iterator[Probe]:
    return (replace(probe, user=user, expected="closed") for probe in probes)
