"""What the coordinator's hosts variables say of what watches it: empty of everything where the site asks for nothing."""

from __future__ import annotations

from typing import Any

from edgefl import layout
from edgefl.site.model import Site

SUBJECT = "prometheus"
"""Whom the certificate that reads /metrics is for; it is no host, and opens nothing else."""


def variables(site: Site) -> dict[str, Any]:
    """Variables of the roles `observability`, `identity` and `runtime` for the coordinator. No secret is among them."""
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
    }
