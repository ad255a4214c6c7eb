"""The console in a browser of this machine: textual-serve's terminal in a page, and a console's process behind each tab.

Every user of this machine reaches loopback, and so does every web page that somebody opens on it. Three things keep them out:
the address holds a secret, made at the start, and there is no cookie that a foreign page could ride on; a request must name this
host, which one to a name that was rebound to 127.0.0.1 does not; and a terminal opens only to the page that was served here.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hmac import compare_digest
from secrets import token_urlsafe
from string import Template
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError, ExitCode

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler
    from aiohttp.web import AppRunner, Request, StreamResponse
    from textual_serve.server import Server

ADDRESS = "127.0.0.1"
_ENDS_WITHIN_S = 5.0
"""How long consoles may take to end when the server does."""
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>edgefl</title>
<link rel="stylesheet" href="static/css/xterm.css">
<style>
  @font-face { font-family: "Roboto Mono"; src: url("static/fonts/RobotoMono-VariableFont_wght.ttf"); }
  body { margin: 0; overflow: hidden; background: #12161c; color: #d5dbe3; font-family: "Roboto Mono", monospace; }
  .textual-terminal { width: 100vw; height: 100vh; }
  .xterm .xterm-viewport { overflow: hidden; }
  p { position: fixed; inset: 0; margin: auto; height: 2em; text-align: center; }
  .-first-byte .opens, .closed { display: none; }
  .-closed .closed { display: block; z-index: 10; background: #1e252f; padding: 1em; }
</style>
<script src="static/js/textual.js"></script>
<script src="focus.js"></script>
<body>
<p class="opens">the console opens…</p>
<p class="closed">the console has ended: reload the page for another</p>
<div class="textual-terminal" data-session-websocket-url="ws://$host/$secret/ws" data-font-size="15"></div>
""")
_FOCUS = """\
addEventListener("load", () => new MutationObserver((_, seen) => {
  if (!document.body.classList.contains("-first-byte")) return;
  seen.disconnect();
  document.querySelector(".textual-terminal textarea").focus();
}).observe(document.body, {attributes: true}));
"""
"""The keyboard belongs to the console as soon as that is there; textual.js leaves it to a click."""


class NotServed(EdgeflError):
    """The console cannot be served to a browser."""


async def serve(command: Sequence[str], *, port: int, told: Callable[[str], None]) -> None:
    """Give each tab a console, the process of this command, until SIGINT or SIGTERM. told: hears the address once it answers.

    port: 0 takes a free one. Raises NotServed.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with _served(command, port) as url:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        told(url)
        try:
            await ended.wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


@asynccontextmanager
async def _served(command: Sequence[str], port: int) -> AsyncIterator[str]:
    try:
        from aiohttp import web
        from textual_serve.server import Server
    except ImportError as error:
        missing = NotServed("a browser needs textual-serve, which is not installed", hint="pip install 'edgefl[web]'")
        missing.exit_code = ExitCode.USAGE
        raise missing from error
    try:
        listener = socket.create_server((ADDRESS, port))
    except OSError as error:
        why = error.strerror or str(error)
        raise NotServed(f"{ADDRESS}:{port} cannot be served: {why}", hint="edgefl console --web --port 0") from error
    gate = Gate(listener.getsockname()[1])
    runner = _runner(gate, Server(shlex.join(command)))
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield f"http://{gate.hosts[0]}/{gate.secret}/"
    finally:
        await runner.cleanup()
        listener.close()


class Gate:
    """Who gets in. hosts: what a request may name, `127.0.0.1:8420` and `localhost:8420`."""

    def __init__(self, port: int) -> None:
        self.secret = token_urlsafe(32)
        self.hosts = (f"{ADDRESS}:{port}", f"localhost:{port}")

    def refuses(self, path: str, hosts: Sequence[str], origin: str | None) -> int:
        """The HTTP status for whoever asks so; 0 when it is let in."""
        secret, _, rest = path.removeprefix("/").partition("/")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return 421
        if not compare_digest(secret.encode(), self.secret.encode()):
            return 404
        wanted = f"http://{hosts[0]}"
        return 403 if origin not in ({wanted} if rest == "ws" else {wanted, None}) else 0

    @property
    def headers(self) -> dict[str, str]:
        """What every answer says: the page loads nothing from elsewhere, stands in no frame, and its address goes nowhere."""
        terminals = " ".join(f"ws://{host}" for host in self.hosts)
        own = "default-src 'none'; script-src 'self'; font-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
        return {
            "Content-Security-Policy": f"{own}; connect-src {terminals}; frame-ancestors 'none'; base-uri 'none'",
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }


def _runner(gate: Gate, server: Server) -> AppRunner:
    from aiohttp import web

    tabs: set[asyncio.Task[None]] = set()

    @web.middleware
    async def guard(request: Request, handler: Handler) -> StreamResponse:
        status = gate.refuses(request.path, request.headers.getall("Host", ()), request.headers.get("Origin"))
        return web.Response(status=status) if status else await handler(request)

    async def page(request: Request) -> StreamResponse:
        return web.Response(text=_PAGE.substitute(host=request.host, secret=gate.secret), content_type="text/html")

    async def focus(_: Request) -> StreamResponse:
        return web.Response(text=_FOCUS, content_type="text/javascript")

    async def terminal(request: Request) -> StreamResponse:
        if (task := asyncio.current_task()) is not None:
            tabs.add(task)
            task.add_done_callback(tabs.discard)
        return await server.handle_websocket(request)

    async def say(_: Request, response: StreamResponse) -> None:
        response.headers.update(gate.headers)

    async def end(_: web.Application) -> None:
        for tab in tabs:
            tab.cancel()
        if tabs:
            await asyncio.wait(tabs, timeout=_ENDS_WITHIN_S)

    app = web.Application(middlewares=[guard])
    own = f"/{gate.secret}"
    app.router.add_get(f"{own}/", page)
    app.router.add_get(f"{own}/focus.js", focus)
    app.router.add_get(f"{own}/ws", terminal)
    app.router.add_static(f"{own}/static", server.statics_path)
    app.on_response_prepare.append(say)
    app.on_shutdown.append(end)
    return web.AppRunner(app, access_log=None, shutdown_timeout=_ENDS_WITHIN_S)
