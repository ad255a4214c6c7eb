"""`python -m edgefl.monitor.service`: the coordinator's monitor on its unix socket, behind the gate.

Reads the journal, asks the SuperLink who is there, answers the API. Nothing that a training run needs depends on it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from edgefl import layout, voice
from edgefl.errors import EdgeflError
from edgefl.events.journal import Journal
from edgefl.federation.checkpoint import Models
from edgefl.federation.flower.notify import notify, watchdog_interval_s
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.monitor import drift
from edgefl.monitor.app import Monitor, build
from edgefl.monitor.control import Control, flower
from edgefl.monitor.models import Library
from edgefl.monitor.presence import Presence
from edgefl.monitor.runs import Runs
from edgefl.monitor.state import FederationState
from edgefl.monitor.stream import Streams
from edgefl.monitor.tail import Tail

_DRAIN_S = 3
"""How long open answers may take to end when the service stops."""
_ASK_S = 5.0
"""How often systemd is asked for more time while the journal is read."""
_STUCK_S = 30.0
"""A tail that has not turned for so long is no longer worth a sign of life."""


def open_socket(path: Path) -> socket.socket:
    """The unix socket that the gate reaches, 0660: its group is the directory's when that is setgid, else the service's own."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def assemble(
    host: HostConfig, journal: Journal, control: Control, fab: Path, models: Path, *, presence_s: float = 2.0
) -> Monitor:
    """The service's parts, joined; nothing runs yet."""
    limit = host.privacy.epsilon_limit if host.privacy.mode != "client" else None  # then no device has a budget of its own
    state = FederationState.enrolled(host.site, host.devices, epsilon_limit=limit, site_hash=host.site_hash)
    tail = Tail(journal, state)
    presence = Presence(journal, tail, control, poll_s=presence_s)
    return Monitor(host, tail, presence, Runs(host, fab, journal, control), Streams(tail), Library(Models(models), journal))


class _Server(uvicorn.Server):
    """Tells systemd when it answers, and ends the endless streams before it waits for open answers."""

    def __init__(self, config: uvicorn.Config, monitor: Monitor) -> None:
        super().__init__(config)
        self._monitor = monitor

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ending on request is success: uvicorn's own handler raises the signal again once all is closed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify(READY=1, STATUS=f"following {self._monitor.tail.journal.path}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify(STOPPING=1)
        self._monitor.streams.close()
        await super().shutdown(sockets)


async def serve(monitor: Monitor, listener: socket.socket, spool: Path = layout.DRIFT) -> None:
    """Follow, look and answer until the process is told to end."""
    await _caught_up(monitor)
    options: dict[str, Any] = {"timeout_graceful_shutdown": _DRAIN_S, "lifespan": "off", "ws": "none"}
    # What the server says goes the way of all that libraries say (voice.to_stderr): it configures nothing of its own.
    config = uvicorn.Config(build(monitor), log_config=None, log_level="warning", access_log=False, **options)
    server = _Server(config, monitor)
    tasks = [
        asyncio.create_task(monitor.tail.follow(), name="tail"),
        asyncio.create_task(monitor.presence.follow(), name="presence"),
        asyncio.create_task(drift.follow(spool, monitor.tail, monitor.host.name, monitor.watchers), name="drift"),
        asyncio.create_task(_be_alive(monitor), name="watchdog"),
    ]
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _caught_up(monitor: Monitor) -> None:
    """Fold the whole journal; a long one takes longer than systemd waits unasked."""
    catching_up = asyncio.ensure_future(monitor.tail.catch_up())
    while not (await asyncio.wait({catching_up}, timeout=_ASK_S))[0]:
        notify(EXTEND_TIMEOUT_USEC=int(4 * _ASK_S * 1e6), STATUS=f"reading the journal: seq {monitor.tail.state.seq}")
    await catching_up


async def _be_alive(monitor: Monitor) -> None:
    """A sign of life for systemd for as long as the loop and the tail turn."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        if time.monotonic() - monitor.tail.turned < _STUCK_S:
            notify(WATCHDOG=1)
        await asyncio.sleep(interval_s)


def main(argv: list[str] | None = None) -> int:
    """Run the service; its exit code."""
    places = Places.from_environment()
    parser = argparse.ArgumentParser(prog="edgefl.monitor.service", description=__doc__)
    parser.add_argument("--socket", type=Path, default=layout.MONITOR_SOCKET, help="unix socket to answer on")
    parser.add_argument("--journal", type=Path, default=places.journal, help="the journal's database")
    parser.add_argument("--host", type=Path, default=places.host, help="this host's part of the site")
    parser.add_argument("--fab", type=Path, default=places.config / "app.fab", help="the app that runs execute")
    parser.add_argument("--models", type=Path, default=places.models, help="where the ServerApp keeps the models")
    parser.add_argument("--drift", type=Path, default=layout.DRIFT, help="where this host's watcher writes what it found")
    args = parser.parse_args(argv)
    log = voice.to_stderr()
    try:
        host = HostConfig.load(args.host)
        with Journal(args.journal) as journal:
            asyncio.run(serve(assemble(host, journal, flower(), args.fab, args.models), open_socket(args.socket), args.drift))
    except EdgeflError as error:
        for line in error.lines():
            log.error("%s", line)
        return int(error.exit_code)
    except OSError as error:
        log.error("%s cannot be opened: %s", args.socket, error.strerror)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
