"""How the operator's requests reach the gate: httpx over TLS over a socket that somebody else dials.

Lab hosts live in another network namespace, so the socket comes from `edgefl.fleet.dial`; the rest is httpcore's public API.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpcore
import httpx

from edgefl.errors import EdgeflError
from edgefl.monitor.identity import Identity

Dial = Callable[[int, float], socket.socket]
"""(port, timeout in seconds) → a connected socket to the coordinator. May block; raises OSError or EdgeflError."""


class Wire(httpx.AsyncBaseTransport):
    """Carries requests to the gate. Raises what httpx's own transport raises, and NotProvisioned without an identity."""

    def __init__(self, dial: Dial, identity: Identity) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # not used: the stream takes the identity's own
            network_backend=_Backend(dial, identity),
            keepalive_expiry=30.0,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the answer's body streams."""
        url = request.url
        with _as_httpx():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Httpcore's errors as httpx's, which have the same names."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.PoolTimeout) as error:
        raise getattr(httpx, type(error).__name__, httpx.TransportError)(str(error)) from error


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, dial: Dial, identity: Identity) -> None:
        self._dial = dial
        self._identity = identity

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Dial; which address that is, the dialler knows. `host` is only the name that the certificate must have."""
        try:
            dialled = await asyncio.to_thread(self._dial, port, timeout or 10.0)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no answer") from error
        except EdgeflError as error:
            raise httpcore.ConnectError(error.what) from error
        except OSError as error:
            raise httpcore.ConnectError(error.strerror or str(error)) from error
        dialled.setblocking(False)
        return _Stream(dialled, self._identity)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A dialled socket; TLS begins when httpcore asks for it, before any byte is sent."""

    def __init__(self, dialled: socket.socket, identity: Identity) -> None:
        self._socket = dialled
        self._identity = identity
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 — httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """Shake hands as the operator with whoever can prove to be `server_hostname`."""
        try:
            async with asyncio.timeout(timeout):
                self._reader, self._writer = await asyncio.open_connection(
                    sock=self._socket, ssl=self._identity.context(), server_hostname=server_hostname
                )
        except TimeoutError as error:
            self._socket.close()
            raise httpcore.ConnectTimeout("the TLS handshake got no answer") from error
        except OSError as error:
            self._socket.close()
            raise httpcore.ConnectError(str(error)) from error
        return self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 — httpcore's signature
        reader = self._reader
        if reader is None:
            raise httpcore.ReadError("TLS has not begun")
        try:
            async with asyncio.timeout(timeout):
                return await reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("no answer") from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 — httpcore's signature
        writer = self._writer
        if writer is None:
            raise httpcore.WriteError("TLS has not begun")
        try:
            async with asyncio.timeout(timeout):
                writer.write(buffer)
                await writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the peer does not read") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        if self._writer is None:
            self._socket.close()
            return
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                # Shielded: giving up cancels what is waited for, and whoever closes this again would be cancelled by it.
                await asyncio.shield(self._writer.wait_closed())

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            # httpcore asks this of an idle connection: readable without a request means that the peer closed it.
            return self._reader is None or self._reader.at_eof() or _has_news(self._socket)
        if info == "ssl_object" and self._writer is not None:
            return self._writer.get_extra_info("ssl_object")
        return None


def _has_news(dialled: socket.socket) -> bool:
    """Whether the socket is closed or holds bytes that nobody asked for."""
    if dialled.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(dialled, select.POLLIN)
    return bool(poll.poll(0))
