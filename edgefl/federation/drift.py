"""What a device's watcher found of its walls, brought to the coordinator by who alone holds the device's identity."""

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
        while True:
            time.sleep(LOOK_S if deliver(spool, post) else RETRY_S)

    threading.Thread(target=follow, name="drift", daemon=True).start()
