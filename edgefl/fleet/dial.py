"""One way to a host, whether it stands on a real network or in a lab."""

from __future__ import annotations

import socket
from pathlib import Path

from edgefl.infra.inventory import Host


def dial(host: Host, port: int, timeout_s: float = 10) -> socket.socket:
    """A TCP connection to a port of the host.

    Raises OSError as `socket.create_connection` does, and LabFailed when the host's lab is not running.
    """
    if host.capsule is None:
        return socket.create_connection((host.address, port), timeout_s)
    from edgefl.lab import reach  # only where there is a lab

    return reach.dial(Path(host.capsule), host.address, port, timeout_s)
