"""Who may ask what. The gate verifies certificates; this trusts its word, and only its word."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edgefl.monitor.errors import Busy, NoIdentity, Refused, RoleRefused

NAME_HEADER = b"x-edgefl-name"
ROLE_HEADER = b"x-edgefl-role"

_RENEWAL = frozenset({"/v1/renew"})
_OPEN_TO = {
    "operator": None,
    "scraper": frozenset({"/metrics"}),
    "device": _RENEWAL | {"/v1/drift"},
    "gate": _RENEWAL,
    "superlink": _RENEWAL,
    "newcomer": frozenset({"/v1/enrol"}),
}
"""Paths by role; None means all. A role that is not here gets nothing. A newcomer has no certificate: the gate calls it by its
address, and no certificate is ever given for that role."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose certificate the gate verified."""

    name: str
    role: str


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the request that is being answered."""
    return _caller.get()


def admit(headers: list[tuple[bytes, bytes]], path: str) -> Caller:
    """The caller, when its role opens the path. Raises NoIdentity or RoleRefused.

    A header that comes twice is refused: one of the two is not the gate's.
    """
    names = [value for header, value in headers if header == NAME_HEADER]
    roles = [value for header, value in headers if header == ROLE_HEADER]
    if len(names) != 1 or len(roles) != 1 or not names[0] or not roles[0]:
        raise NoIdentity("this service answers the gate alone", hint="ask the coordinator's API port with a client certificate")
    seen = Caller(names[0].decode("latin-1"), roles[0].decode("latin-1"))
    if seen.role not in _OPEN_TO:
        raise RoleRefused(f"a certificate of role {seen.role!r} opens nothing here")
    paths = _OPEN_TO[seen.role]
    if paths is not None and path not in paths:
        raise RoleRefused(f"a certificate of role {seen.role!r} opens only {', '.join(sorted(paths))}")
    return seen


class Admission:
    """ASGI middleware: nothing behind it is reached without `admit`. Plain ASGI, so that streams pass unbuffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here
        try:
            seen = admit(scope["headers"], scope["path"])
        except Refused as error:
            await refusal(error)(scope, receive, send)
            return
        token = _caller.set(seen)
        try:
            await self._app(scope, receive, send)
        finally:
            _caller.reset(token)


def refusal(error: Refused) -> JSONResponse:
    """A refusal on the wire; `Refused.read` reads it."""
    headers = {"Retry-After": str(math.ceil(error.again_s))} if isinstance(error, Busy) else None
    return JSONResponse(error.as_dict(), status_code=error.http_status, headers=headers)
