"""What the coordinator's own monitor says, asked on the host over its socket."""

from __future__ import annotations

import http.client
import json
import socket

SOCKET = "/run/edgefl-monitor/api.sock"
# The socket is reachable for the gate and for root alone, and says who asks as the gate would.
_CALLER = {"X-Edgefl-Name": "ansible", "X-Edgefl-Role": "operator"}


class _Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def devices():
    """{device: whether the SuperLink has it online}; empty while the monitor does not answer."""
    connection = _Connection("monitor", timeout=5)
    try:
        connection.request("GET", "/v1/devices", headers=_CALLER)
        answer = connection.getresponse()
        if answer.status != 200:
            return {}
        return {device["name"]: bool(device["connected"]) for device in json.load(answer)["devices"]}
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
