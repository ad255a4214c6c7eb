"""How much the monitor takes on at once. Beyond that a caller hears at once that it is too much, and when to come again."""

from __future__ import annotations

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from edgefl.monitor.access import refusal
from edgefl.monitor.errors import Busy, Refused, TooLarge

MOST_OPEN = {"/v1/actions": 64, "/v1/events": 64, "/v1/logs": 32, "/v1/recording": 8}
"""Requests that may be open at once, by path: each holds what it writes, a page of the journal, or a process of journalctl."""
MOST_BYTES = 4 << 20
"""What may be written at once: a thousand events are a tenth of it."""
_WRITES = "/v1/actions"


class Pressure:
    """ASGI middleware: what it refuses was not read, so that memory is bounded by what it lets in. Plain, for streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        path = scope.get("path", "")
        if path not in MOST_OPEN:
            await self._app(scope, receive, send)
            return
        try:
            if self._open[path] >= MOST_OPEN[path]:
                raise Busy(f"{self._open[path]} requests to {path} are open already")
            if path == _WRITES:
                _fits(dict(scope["headers"]))
        except Refused as error:
            await refusal(error)(scope, receive, send)
            return
        self._open[path] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[path] -= 1


def _fits(headers: dict[bytes, bytes]) -> None:
    """Raises TooLarge, also where nobody says how much it is."""
    said = headers.get(b"content-length", b"")
    if not said.isdigit() or int(said) > MOST_BYTES:
        raise TooLarge(f"at most {MOST_BYTES} bytes at a time, and Content-Length says how many", hint="say it in parts")
