"""What a device's watcher found of its walls, and that it lives, brought to the coordinator by who alone holds the identity."""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

PATH = "/v1/drift"
LOOK_S = 2.0
RETRY_S = 30.0
"""Between two attempts to tell a coordinator that is away, or that has heard enough for now."""
TIMEOUT_S = 10.0
ALIVE = "alive"
"""The watcher's sign of life in the spool."""
ALIVE_EVERY_S = 30.0
_LIVES = b'{"alive": true}'
_MOST_BYTES = 16384
"""What the gate lets pass."""

log = logging.getLogger("edgefl")

Post = Callable[[bytes], int]
"""Sends a report; the answer's HTTP status. Raises OSError or http.client.HTTPException when there is no answer."""


def deliver(spool: Path, post: Post) -> bool:
    """Bring every report of the spool; whether none is left. What the coordinator does not understand is not kept for it."""
    for path in sorted(spool.glob("*.json")):
        try:
            status = post(path.read_bytes()[:_MOST_BYTES])
        except (OSError, http.client.HTTPException) as error:
            log.warning("the coordinator does not know yet that the walls were changed: %s", error)
            return False
        if status == http.client.TOO_MANY_REQUESTS or status >= 500:
            return False
        log.warning("the walls were changed; the coordinator %s", "knows" if status < 300 else f"refused the report ({status})")
        path.unlink(missing_ok=True)
    return True


def say_alive(spool: Path, post: Post, told: float) -> float:
    """Tell the coordinator that the watcher lives, where its sign is that much newer than `told`; the time of what was told last.

    Both are the sign's own times, in seconds: a watcher that has stopped has none that is new.
    """
    try:
        lived = (spool / ALIVE).stat().st_mtime
        if abs(lived - told) < ALIVE_EVERY_S or post(_LIVES) >= 300:
            return told
    except (OSError, http.client.HTTPException):  # no watcher, or no coordinator: it will be missed
        return told
    return lived


def to_gate(address: str, port: int, context: ssl.SSLContext) -> Post:
    """Posts to the coordinator's gate with the device's certificate, each time on a new connection: it may have been renewed."""

    def post(report: bytes) -> int:
        connection = http.client.HTTPSConnection(address, port, context=context, timeout=TIMEOUT_S)
        try:
            connection.request("POST", PATH, report, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    return post


def keep_telling(spool: Path, post: Post) -> None:
    """Look into the spool for as long as this process lives."""

    def follow() -> None:
        told = 0.0
        while True:
            done = deliver(spool, post)
            told = say_alive(spool, post, told)
            time.sleep(LOOK_S if done else RETRY_S)

    threading.Thread(target=follow, name="drift", daemon=True).start()
