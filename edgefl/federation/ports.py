"""Loopback ports for services that are about to be started. Standard library alone."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def reserve_port(held: ExitStack) -> int:
    """A loopback port that nobody else is given until `held` is closed; servers listen there all the same, by SO_REUSEADDR.

    Of ports that are let go before their servers listen, two of one federation were the same now and then.
    """
    holder = held.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    return port
