"""TLS contexts whose certificate is replaced while others connect.

OpenSSL's contexts are not made for being changed while threads make connections of them: a certificate that is loaded into one
that serves ends the process (SIGSEGV) where a handshake begins at that moment. So each renewed certificate gets a context of its
own, which is never changed again, and connections take the newest.
"""

from __future__ import annotations

import ssl
from typing import Any


class ClientContext(ssl.SSLContext):
    """What clients are given once and for all: every connection is wrapped by the newest context that was put in here."""

    newest: ssl.SSLContext

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """As SSLContext's own."""
        return self.newest.wrap_socket(*arguments, **options)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """As SSLContext's own."""
        return self.newest.wrap_bio(*arguments, **options)


def client(newest: ssl.SSLContext) -> ClientContext:
    """A client's context that begins with this one."""
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.newest = newest
    return context


class Answering:
    """A server's `sni_callback` (which is called for a connection without a name, too): `newest` answers, once there is one."""

    newest: ssl.SSLContext | None = None

    def __call__(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _asked: ssl.SSLContext) -> None:
        """Give a connection that has just begun the newest certificate."""
        if self.newest is not None:
            connection.context = self.newest
