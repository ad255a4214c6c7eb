"""The console in a browser, over real HTTP and real WebSockets, and who does not get it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from yarl import URL

from edgefl.cli.console import behind
from edgefl.console.web import NotServed, serve
from edgefl.errors import ExitCode


class Server:
    """`edgefl console --web` in a process group of its own."""

    def __init__(self, *argv: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgefl", "console", "--web", "--port", "0", *argv],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = URL(self.process.stdout.readline().strip())

    @property
    def origin(self) -> str:
        return str(self.url.origin())

    @property
    def terminal(self) -> str:
        return f"{str(self.url).replace('http', 'ws', 1)}ws?width=100&height=30"

    def ends(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def is_alone(self) -> bool:
        """Whether nothing of its process group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def server(recording: Path) -> Iterator[Server]:
    server = Server("--replay", str(recording))
    yield server
    server.close()


@asynccontextmanager
async def tab(server: Server, **headers: str) -> AsyncIterator[ClientWebSocketResponse]:
    said = {"Origin": server.origin, **headers}
    async with ClientSession() as browser, browser.ws_connect(server.terminal, headers=said) as terminal:
        yield terminal


async def until(terminal: ClientWebSocketResponse, text: str) -> None:
    seen = ""
    async with asyncio.timeout(60):
        while text not in seen:
            message = await terminal.receive()
            assert message.type in {WSMsgType.BINARY, WSMsgType.TEXT}, f"the terminal closed without {text!r}: {seen[-500:]!r}"
            seen += message.data.decode(errors="replace") if isinstance(message.data, bytes) else ""


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited 60 s for {what}"
        time.sleep(0.02)


@pytest.mark.slow
async def test_a_tab_has_a_console_that_takes_keys(server: Server) -> None:
    async with tab(server) as terminal:
        await until(terminal, "hospital-net")
        await terminal.send_json(["stdin", "2"])
        await until(terminal, "accuracy")
        await terminal.send_json(["stdin", "q"])
        async with asyncio.timeout(60):
            while not terminal.closed:
                await terminal.receive()


@pytest.mark.slow
async def test_where_there_is_no_site_a_tab_begins_one_unless_it_may_change_nothing(tmp_path: Path) -> None:
    server = Server("--site", str(tmp_path))
    try:
        async with tab(server) as terminal:
            await until(terminal, "Write site.yaml")
    finally:
        server.close()
    refused = Server("--site", str(tmp_path), "--readonly")
    assert await asyncio.to_thread(refused.process.wait, 60) == ExitCode.SITE_INVALID
    refused.close()


@pytest.mark.slow
async def test_the_page_needs_nothing_from_elsewhere_and_allows_nothing_else(server: Server) -> None:
    async with ClientSession() as browser:
        async with browser.get(server.url) as answer:
            text = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
            assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.status == 200
        assert "https://" not in text
        assert policy.startswith("default-src 'none'; script-src 'self';")
        for part in ("static/js/textual.js", "static/css/xterm.css", "static/fonts/RobotoMono-VariableFont_wght.ttf", "focus.js"):
            assert part in text
            async with browser.get(server.url / part) as answer:
                assert answer.status == 200, part
        for other in ("static/", "static/../../server.py", "download/1"):
            async with browser.get(URL(f"{server.url}{other}", encoded=True)) as answer:
                assert answer.status in {403, 404}, other


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 404),
        ("/ws", {}, 404),
        ("/static/js/textual.js", {}, 404),
        ("/guessed/", {}, 404),
        ("{own}", {"Host": "rebound.example:{port}"}, 421),
        ("{own}", {"Host": "127.0.0.1:1"}, 421),
        ("{own}", {"Origin": "http://evil.example"}, 403),
        ("{own}", {"Origin": "null"}, 403),
    ],
)
async def test_who_lacks_the_secret_or_comes_from_elsewhere_gets_nothing(
    path: str, headers: dict[str, str], status: int, server: Server
) -> None:
    url = URL(server.origin + path.format(own=server.url.path))
    said = {name: value.format(port=server.url.port) for name, value in headers.items()}
    async with ClientSession() as browser, browser.get(url, headers=said) as answer:
        assert answer.status == status
        assert await answer.read() == b"" or status == 200


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null", ""])
async def test_a_foreign_page_opens_no_terminal(origin: str, server: Server) -> None:
    async with ClientSession() as browser:
        with pytest.raises(WSServerHandshakeError) as refused:
            await browser.ws_connect(server.terminal, headers={"Origin": origin} if origin else {})
    assert refused.value.status == 403


@pytest.mark.slow
def test_it_listens_on_one_loopback_address_alone(server: Server) -> None:
    assert server.url.host == "127.0.0.1"
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", server.url.port or 0)) != 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_ends_on_request_with_every_console_behind_it(number: int, recording: Path) -> None:
    server = Server("--replay", str(recording))
    try:
        async with tab(server) as terminal:
            await until(terminal, "hospital-net")
            assert await asyncio.to_thread(server.ends, number) == 0
        wait_for(server.is_alone, "the consoles behind it")
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    finally:
        server.close()


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotServed, match=f"127.0.0.1:{port} cannot be served: Address already in use") as error:
            await serve(["true"], port=port, told=print)
    assert "--port" in error.value.hint


async def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    with pytest.raises(NotServed) as error:
        await serve(["true"], port=0, told=print)
    assert error.value.exit_code == ExitCode.USAGE
    assert error.value.hint == "pip install 'edgefl[web]'"


def test_the_console_behind_a_tab_is_the_one_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = argparse.Namespace(site=Path("a site"), replay=None, speed=0.0, theme="edgefl-light", readonly=True)
    assert behind(asked)[3:] == ["console", "--site", str(tmp_path / "a site"), "--theme", "edgefl-light", "--readonly"]
    asked = argparse.Namespace(site=Path(), replay=Path("run.ndjson"), speed=20.0, theme="", readonly=False)
    assert behind(asked)[6:] == ["--replay", str(tmp_path / "run.ndjson"), "--speed", "20.0"]
