"""Ports of services that are about to be started."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

from edgefl.federation.ports import reserve_port

ASKS = """
import socket
for _ in range(5000):
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        print(asked.getsockname()[1])
"""


def test_a_port_is_nobody_elses_and_a_server_listens_there() -> None:
    with ExitStack() as held:
        ports = {reserve_port(held) for _ in range(200)}
        given = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True).stdout
        assert len(ports) == 200
        assert not ports & set(map(int, given.split()))
        with socket.create_server(("127.0.0.1", ports.pop())) as server, socket.create_connection(server.getsockname()):
            pass
