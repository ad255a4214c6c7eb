"""Telling systemd how a service is: sd_notify(3) over its datagram socket, without a library."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable


def notify(**fields: str | int) -> bool:
    """Send `FIELD=value` lines, e.g. `notify(READY=1, STATUS="listening")`.

    Returns whether a supervisor listens; without NOTIFY_SOCKET nothing happens.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={value}" for name, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(message.encode(), address)
        except OSError:
            return False
    return True


def watchdog_interval_s() -> float | None:
    """How often the supervisor wants a sign of life, a third of its limit; None when it asks for none."""
    limit = os.environ.get("WATCHDOG_USEC")
    if not limit or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(limit) / 3e6


def keep_watchdog(is_alive: Callable[[], bool]) -> threading.Thread | None:
    """Feed the supervisor's watchdog from a thread for as long as `is_alive` says so; None when none is asked for."""
    interval_s = watchdog_interval_s()
    if interval_s is None:
        return None

    def feed() -> None:
        tick = threading.Event()
        while not tick.wait(interval_s):
            if is_alive():
                notify(WATCHDOG=1)

    thread = threading.Thread(target=feed, name="watchdog", daemon=True)
    thread.start()
    return thread
