"""What hosts are told of what watches the federation: but for how much logs may take, nothing where the site asks for nothing."""

from __future__ import annotations

from typing import Any

from edgefl import layout
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.model import Site

SUBJECT = "prometheus"
"""Whom the certificate that reads /metrics and devices is for; it is no host, and opens nothing else."""


def variables(site: Site, host: Host, inventory: Inventory) -> dict[str, Any]:
    """Variables of the roles `observability`, `isolation`, `identity` and `runtime` for a host. No secret is among them."""
    about = _device(site, inventory) if host.role == "device" else _coordinator(site, inventory)
    return {"observability_logs_mb": site.observability.logs_mb, **about}


def _device(site: Site, inventory: Inventory) -> dict[str, Any]:
    if not site.observability.devices:
        return {"observability_wanted": False}
    hub, port = inventory.coordinator, layout.NODE_EXPORTER_PORT
    return {
        "observability_wanted": True,
        "observability_reader_address": hub.address,
        "observability_exporter_listen": f":{port}",
        "isolation_exporter": {"port": port, "addresses": [hub.address]},
        "identity_further_keys": [{"name": "exporter", "owner": layout.USER_EXPORTER}],
        "identity_reader": hub.name,
        "runtime_exporter": ["prometheus-node-exporter"],
    }


def _coordinator(site: Site, inventory: Inventory) -> dict[str, Any]:
    watch, name = site.observability, site.coordinator.name
    about: dict[str, Any] = {
        "observability_wanted": watch.prometheus,
        "observability_host": name,
        "observability_site": site.name,
    }
    if not watch.prometheus:
        return about
    receivers = dict.fromkeys(("slack", "email", "webhook"))
    told = {kind: receiver.model_dump(mode="json") for kind, receiver in watch.receivers.items()}
    # When a secret's file changed is what tells that it did: a hash of a short password would tell the password.
    secrets = [{"kind": kind, "path": str(path), "changed": path.stat().st_mtime_ns} for kind, _, path in watch.secrets()]
    allowed = {one.where for one in site.isolation.coordinator if one.by == "host"}
    return {
        **about,
        "observability_keep_days": watch.keep_days,
        "observability_accuracy_low": watch.accuracy_low,
        "observability_receivers": {**receivers, **told},
        "observability_secrets": secrets,
        "observability_ways_out": sorted(allowed | {str(address) for address in site.isolation.dns}),
        "observability_monitor": f"127.0.0.1:{layout.API_PORT}",
        "observability_prometheus_listen": f"127.0.0.1:{layout.PROMETHEUS_PORT}",
        "observability_alertmanager_listen": f"127.0.0.1:{layout.ALERTMANAGER_PORT}",
        "observability_node_exporter_listen": f"127.0.0.1:{layout.NODE_EXPORTER_PORT}",
        "identity_further_keys": [{"name": "scraper", "owner": layout.USER_WATCH, "subject": SUBJECT}],
        "runtime_watch": ["prometheus", "prometheus-alertmanager", "prometheus-node-exporter"],
        **(_read(site, inventory) if watch.devices else {}),
    }


def _read(site: Site, inventory: Inventory) -> dict[str, Any]:
    """Where Prometheus reads the devices, for the coordinator."""
    port, addresses = layout.NODE_EXPORTER_PORT, {one.name: inventory.host(one.name).address for one in site.devices}
    shown = {name: f"[{address}]" if ":" in address else address for name, address in addresses.items()}
    return {
        "observability_devices": {name: f"{address}:{port}" for name, address in shown.items()},
        "observability_device_addresses": sorted(addresses.values()),
        "isolation_exporter": {"port": port, "addresses": sorted(addresses.values())},
    }
