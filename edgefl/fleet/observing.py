"""What hosts are told of what watches the federation: but for how much logs may take, nothing where the site asks for nothing.

One host reads (the coordinator, or one of its own); devices answer it, and where it is not the coordinator, the gate does.
"""

from __future__ import annotations

from typing import Any

from edgefl import layout
from edgefl.infra.inventory import Host, Inventory
from edgefl.pki.profiles import profiles
from edgefl.site.model import Site
from edgefl.site.observability import SUBJECT

PORT = layout.NODE_EXPORTER_PORT
EXPORTER = "edgefl-node-exporter"
READERS = ("edgefl-prometheus", "edgefl-alertmanager", EXPORTER)
"""What runs on the host that reads; on those that answer it, the last alone."""


def variables(site: Site, host: Host, inventory: Inventory) -> dict[str, Any]:
    """Variables of the roles `observability`, `isolation`, `identity`, `runtime` and `coordinator` for a host.

    No secret is among them.
    """
    reader = reader_of(site, inventory)
    about: dict[str, Any] = {
        "observability_logs_mb": site.observability.logs_mb,
        "observability_wanted": host == reader,
        "observability_read": "",
    }
    if host == reader:
        return about | _reading(site, host, inventory)
    if reader is not None and host.role == "coordinator":
        return about | _gate(reader)
    if reader is not None and host in exporters(site, inventory):
        return about | _answering(reader)
    return about


def reader_of(site: Site, inventory: Inventory) -> Host | None:
    """The host where Prometheus runs; None where the site asks for none, or its host is not there."""
    if not site.observability.prometheus:
        return None
    return inventory.watcher if site.watcher else inventory.coordinator


def services(site: Site, host: Host) -> tuple[str, ...]:
    """What of that runs on a host, for the site as it is."""
    if not site.observability.prometheus:
        return ()
    if host.role == ("watcher" if site.watcher else "coordinator"):
        return READERS
    is_read = host.role == "coordinator" or (host.role == "device" and site.observability.devices)
    return (EXPORTER,) if is_read else ()


def exporters(site: Site, inventory: Inventory) -> tuple[Host, ...]:
    """The devices that Prometheus reads, one by one; none where the site does not ask for it."""
    return tuple(inventory.host(one.name) for one in site.devices) if site.observability.devices else ()


def _answering(reader: Host) -> dict[str, Any]:
    """By whom a device is read."""
    return {
        "observability_read": "device",
        "observability_reader_address": reader.address,
        "observability_exporter_listen": f":{PORT}",
        "isolation_exporter": {"port": PORT, "addresses": [reader.address]},
        "identity_further_keys": [{"name": "exporter", "owner": layout.USER_EXPORTER}],
        "identity_reader": reader.name,
        "runtime_exporter": ["prometheus-node-exporter"],
    }


def _gate(reader: Host) -> dict[str, Any]:
    """How the coordinator is read from another host: all of it through the gate, under a name that Go's programs can check."""
    return {
        "observability_read": "gate",
        "observability_node_exporter_listen": f"127.0.0.1:{PORT}",
        "isolation_watcher": {"address": reader.address, "port": PORT},
        "identity_further_keys": [{"name": "metrics", "owner": layout.USER_GATE, "joined": True}],
        "coordinator_metrics_name": metrics_name(),
        "coordinator_watcher_address": reader.address,
        "coordinator_exporter_port": PORT,
        "runtime_exporter": ["prometheus-node-exporter"],
    }


def metrics_name() -> str:
    """The name by which a Prometheus on another host asks for the gate."""
    return profiles().roles["metrics"].names[0]


def _reading(site: Site, host: Host, inventory: Inventory) -> dict[str, Any]:
    """What Prometheus and Alertmanager are told on the host where they run."""
    watch, hub = site.observability, inventory.coordinator
    receivers = dict.fromkeys(("slack", "email", "webhook"))
    told = {kind: receiver.model_dump(mode="json") for kind, receiver in watch.receivers.items()}
    # When a secret's file changed is what tells that it did: a hash of a short password would tell the password.
    secrets = [{"kind": kind, "path": str(path), "changed": path.stat().st_mtime_ns} for kind, _, path in watch.secrets()]
    allowed = {one.where for one in site.isolation.of(host.role) if one.by == "host"}
    return {
        "observability_host": hub.name,
        "observability_site": site.name,
        "observability_keep_days": watch.keep_days,
        "observability_accuracy_low": watch.accuracy_low,
        "observability_receivers": {**receivers, **told},
        "observability_secrets": secrets,
        "observability_ways_out": sorted(allowed | {str(address) for address in site.isolation.dns}),
        "observability_monitor": f"127.0.0.1:{layout.API_PORT}",
        "observability_prometheus_listen": f"127.0.0.1:{layout.PROMETHEUS_PORT}",
        "observability_alertmanager_listen": f"127.0.0.1:{layout.ALERTMANAGER_PORT}",
        "observability_node_exporter_listen": f"127.0.0.1:{PORT}",
        "identity_further_keys": [{"name": "scraper", "owner": layout.USER_WATCH, "subject": SUBJECT}],
        "runtime_watch": ["prometheus", "prometheus-alertmanager", "prometheus-node-exporter"],
        **_devices(exporters(site, inventory)),
        **({} if host == hub else _elsewhere(host, hub)),
    }


def _elsewhere(host: Host, hub: Host) -> dict[str, Any]:
    """What is otherwise where Prometheus runs on a host of its own."""
    return {
        "observability_watcher": host.name,
        "observability_metrics_name": metrics_name(),
        "observability_walls": str(layout.DRIFT),
        "observability_monitor": f"{_shown(hub.address)}:{layout.API_PORT}",
        "observability_monitor_address": hub.address,
    }


def _devices(read: tuple[Host, ...]) -> dict[str, Any]:
    """Where Prometheus reads devices; nothing where it reads none."""
    if not read:
        return {}
    addresses = sorted(host.address for host in read)
    return {
        "observability_devices": {host.name: f"{_shown(host.address)}:{PORT}" for host in read},
        "observability_device_addresses": addresses,
        "isolation_exporter": {"port": PORT, "addresses": addresses},
    }


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address
