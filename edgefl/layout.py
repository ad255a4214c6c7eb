"""Where things lie and what they are called on hosts and in the site's state: the one place that says so.

Playbooks receive these values as variables (`edgefl.operations` renders them into the inventory); nothing else repeats them.
"""

from __future__ import annotations

import os
from pathlib import Path

FLEET_PORT = 7443
"""The gate's port for devices (Flower's Fleet API, mutual TLS)."""
API_PORT = 7444
"""The gate's port for operators and scrapers (the monitor's API, mutual TLS)."""
SUPERLINK_PORT = 8000
"""Flower's own port on the coordinator's loopback; nobody but edgefl's users reaches it."""
SUPERNODE_PORT = 9094
"""The SuperNode's Runtime API on a device's loopback; for its SuperExec and ClientApps alone."""
PROMETHEUS_PORT = 9090
"""On the coordinator's loopback, as the next two, and only where the site asks for them."""
ALERTMANAGER_PORT = 9093
NODE_EXPORTER_PORT = 9100
"""And on devices, where the site asks for that: for Prometheus alone, over mutual TLS."""
TUNNEL_INTERFACE = "edgefl0"
"""A host's end of the tunnel, where the site has one."""
TUNNEL_MARK = 0xEDF1
"""What the packets of a device's tunnel bear on the host itself: its firewall lets them, and no others, to the endpoint."""

# Users: one per service, without a shell.
USER_LINK = "edgefl-link"
"""SuperLink."""
USER_SERVER = "edgefl-server"
"""SuperExec and ServerApp on the coordinator: runs the task's code, so it owns no key; `isolation.coordinator` is for it."""
USER_MONITOR = "edgefl-monitor"
"""The monitor."""
USER_GATE = "edgefl-gate"
"""haproxy."""
USER_NODE = "edgefl-node"
"""SuperNode on a device: holds the identity, reaches the gate and nothing else."""
USER_APP = "edgefl-app"
"""SuperExec and ClientApps on a device: holds the data and the ledger, reaches the SuperNode's loopback port and what
`isolation.device` allows a task, and nothing else."""
USER_WATCH = "prometheus"
"""Prometheus, Alertmanager and node_exporter, where the site asks for them; Debian's packages make it."""
USER_EXPORTER = "edgefl-exporter"
"""node_exporter on a device, where the site asks for it: answers Prometheus, and reaches nobody."""
USER_TUNNEL = "edgefl-tunnel"
"""Holds the key of this host's end of the tunnel, where the site has one."""
GROUP_JOURNAL = "edgefl-journal"
"""May append to the journal: the ServerApp and the monitor."""

# On hosts.
CONFIG = Path("/etc/edgefl")
"""host.json (this host's part of the site), identity/, gate/."""
IDENTITY = CONFIG / "identity"
"""<role>.key (0600), <role>.crt (chain), ca.crt, crl.pem."""
SIGNING = CONFIG / "signing"
"""signer.key (0600, the executor's) and signer.crt, for what a device signs to others; ca.crt and crl.pem, by which it checks
what they signed. The executor never sees the identity.
"""
RENEWAL = CONFIG / "renewal"
"""On the coordinator: renewal.key (0600, the monitor's) and renewal.crt, by which hosts' certificates are renewed."""
STATE = Path("/var/lib/edgefl")
"""ledger/, journal/, models/, link/, node/, app/."""
JOURNAL = STATE / "journal" / "journal.db"
"""The append-only, hash-chained event log (SQLite, WAL)."""
MODELS = STATE / "models"
"""<run>/<round>: every global model with its record (federation/checkpoint.py). privacy/: the ledger of what was given out, where
whole devices are protected (federation/privacy/release.py)."""
LEDGER = STATE / "ledger" / "ledger.db"
"""The device's own record of epsilon spent."""
FEEDBACK = STATE / "app" / "feedback.safetensors"
"""What compression has left to send of a device's updates."""
HELD = STATE / "app" / "model.safetensors"
"""The global model that a device holds, where the next one is sent as its change."""
SECURE = STATE / "app" / "secure"
"""Secrets of a device's masks, a file for each round under way."""
PERSONAL = STATE / "app" / "personal"
"""A device's own layers of the models that it trains."""
ANSWER = STATE / "app" / "answer.safetensors"
"""The device's last update, with the question that it answers."""
DRIFT = Path("/var/spool/edgefl")
"""What a host's watcher found of its walls, a file each, until the SuperNode or the monitor has told the journal."""
DATA = Path("/srv/edgefl/data")
"""The device's private data, where the site names no other place."""
ENROL = Path("/opt/edgefl/bin/edgefl-enrol")
"""On a device: what asks for a token, and has the device certified (pki/enrol.py)."""
RELEASES = Path("/opt/edgefl/releases")
"""<hash>/: edgefl's own code; `/opt/edgefl/current` points at the one in use."""
VENVS = Path("/opt/edgefl/venvs")
"""<hash>/: what edgefl depends on, by the hash of its lock; `/opt/edgefl/venv` points at the one in use."""
MONITOR_SOCKET = Path("/run/edgefl-monitor/api.sock")
"""Where the gate reaches the monitor."""


def cache() -> Path:
    """Where the operator's machine keeps what sites share (the lab's image, wheels).

    $EDGEFL_CACHE, else /var/cache/edgefl for root and ~/.cache/edgefl for others.
    """
    if chosen := os.environ.get("EDGEFL_CACHE"):
        return Path(chosen).absolute()
    return Path("/var/cache/edgefl") if os.geteuid() == 0 else Path.home() / ".cache" / "edgefl"
