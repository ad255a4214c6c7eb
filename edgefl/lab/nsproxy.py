"""SSH's way into the lab: `ProxyCommand python -m edgefl.lab.nsproxy CAPSULE %h %p` with `ProxyUseFdpass yes`.

It connects in the lab's network, hands the socket to ssh over its standard output and ends: no byte goes through it.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from edgefl.errors import EdgeflError
from edgefl.lab.reach import dial


def main(arguments: list[str]) -> int:
    """Connect and hand over; 1 with one line on standard error when that fails."""
    capsule, host, port = arguments
    try:
        with dial(Path(capsule), host, int(port)) as connection, socket.socket(fileno=sys.stdout.fileno()) as ssh:
            connection.setblocking(True)
            socket.send_fds(ssh, [b"\0"], [connection.fileno()])
            ssh.detach()
    except (OSError, EdgeflError) as error:
        sys.stderr.write(f"✖ {host}:{port} in the lab {capsule}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
