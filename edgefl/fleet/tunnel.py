"""What hosts are told of the tunnel, where the site has one; empty of everything where it has none."""

from __future__ import annotations

from typing import Any

from edgefl import layout
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.addresses import tunnelled
from edgefl.site.model import Site


def gate_address(site: Site, inventory: Inventory) -> str:
    """Where devices find the gate: in the tunnel, where there is one, and nowhere else."""
    return str(tunnelled(site).get(site.coordinator.name, inventory.coordinator.address))


def device_addresses(site: Site, inventory: Inventory) -> list[str]:
    """From where devices come to the gate, in the site's order."""
    inside = tunnelled(site)
    return [str(inside.get(device.name, inventory.host(device.name).address)) for device in site.devices]


def endpoint(site: Site, inventory: Inventory) -> str:
    """The address at which devices find the coordinator's end; empty where the site has no tunnel."""
    wanted = site.isolation.tunnel
    return str(wanted.endpoint or inventory.coordinator.address) if wanted else ""


def variables(site: Site, host: Host, inventory: Inventory) -> dict[str, Any]:
    """Variables of the roles `isolation`, `identity`, `runtime` and `tunnel` for a host."""
    wanted, inside = site.isolation.tunnel, tunnelled(site)
    if wanted is None or host.role == "watcher":
        return {}
    way = {"port": wanted.port, "interface": layout.TUNNEL_INTERFACE}
    way |= {"endpoint": endpoint(site, inventory), "mark": layout.TUNNEL_MARK} if host.role == "device" else {}
    ends = [site.coordinator.name] if host.role == "device" else [device.name for device in site.devices]
    return {
        "isolation_tunnel": way,
        "identity_tunnel_key": layout.USER_TUNNEL,
        "identity_further_addresses": [str(inside[host.name])] if host.role == "coordinator" else [],
        "runtime_tunnel": ["wg", "wireguard-go"],
        "tunnel_address": str(inside[host.name]),
        "tunnel_way": way,
        "tunnel_peers": {name: str(inside[name]) for name in ends},
    }
