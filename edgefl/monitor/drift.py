"""Walls that were changed: what devices tell through the gate, and what the coordinator's own watcher wrote down.

A watcher says that it lives, too. The owner of a device can stop it: then its silence is what is told.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI
from pydantic import ValidationError

from edgefl.errors import EdgeflError
from edgefl.events.drift import IsolationDrift
from edgefl.events.journal import Journal
from edgefl.federation.drift import ALIVE
from edgefl.monitor.access import caller
from edgefl.monitor.device import Isolation
from edgefl.monitor.errors import Busy, Refused
from edgefl.monitor.state import FederationState
from edgefl.monitor.tail import Tail

PATH = "/v1/drift"
BETWEEN_S = 30.0
"""A device's reports are taken so far apart at least: one that is owned must not fill the journal."""
LOOK_S = 2.0
SILENT_S = 180.0
"""A watcher that nobody has heard for so long does not watch; it looks every 20 s, and its word is brought every 30 s."""
SILENT = "the watcher of its walls is silent"


def understood(said: Any, host: str, role: str) -> IsolationDrift:
    """A report as its host's event; whose it is, the certificate says. Raises Refused."""
    try:
        return IsolationDrift.model_validate({**said, "type": "isolation_drift", "device": host, "role": role})
    except (ValidationError, TypeError) as error:
        raise Refused(f"not a report of a wall: {str(error).splitlines()[0]}") from error


class Watchers:
    """Which hosts' watchers were heard, and when. Nothing of it is kept: after a start everybody has time to speak."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._came: dict[str, float] = {}

    def hear(self, host: str) -> None:
        """It lives."""
        self._heard[host] = self._clock()

    def silent(self, there: Collection[str]) -> list[str]:
        """Those of the hosts that are there, and have been for long enough, whose watcher was not heard meanwhile."""
        now = self._clock()
        self._came = {host: self._came.get(host, now) for host in there}
        return [host for host, came in self._came.items() if now - max(came, self._heard.get(host, came)) >= SILENT_S]


def missed(state: FederationState, watchers: Watchers, coordinator: str) -> list[IsolationDrift]:
    """What to write of watchers that are silent: once, and again where walls were proven and it still is."""
    there = [name for name, row in state.devices.items() if row.connected and row.standing not in {"quarantined", "removed"}]
    found = []
    for host in watchers.silent([coordinator, *there]):
        role = "coordinator" if host == coordinator else "device"
        proof = state.proofs.get(host) if role == "coordinator" else state.devices[host].isolation
        if not _is_known(proof):
            said = {"found": [SILENT], "healed": False, "at": datetime.now(UTC)}
            found.append(understood(said, host, role))
    return found


def _is_known(proof: Isolation | None) -> bool:
    return proof is not None and proof.drift is not None and SILENT in proof.drift.found


def add(app: FastAPI, journal: Journal, watchers: Watchers, clock: Callable[[], float] = time.monotonic) -> None:
    """The one endpoint that is a device's."""
    told: dict[str, float] = {}

    @app.post(PATH, status_code=201)
    async def drift(said: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """A device's walls were changed; it says what was wrong, and whether it is right again. Or: its watcher lives."""
        who, now = caller(), clock()
        if who.role != "device":
            raise Refused("only a device tells of its own walls")
        if said == {"alive": True}:
            watchers.hear(who.name)
            return {"heard": True}
        body = understood(said, who.name, "device")
        if (left_s := BETWEEN_S - (now - told.get(who.name, -BETWEEN_S))) > 0:
            raise Busy(f"{who.name} has told of its walls less than {BETWEEN_S:g} s ago", again_s=left_s)
        told[who.name] = now
        watchers.hear(who.name)
        return {"seq": (await asyncio.to_thread(journal.append, body)).seq}


async def follow(spool: Path, tail: Tail, host: str, watchers: Watchers) -> None:
    """Tell the journal, for ever, what the coordinator's own watcher wrote down, and which watchers are silent.

    Without a spool this coordinator stands on no host of edgefl's making, and nobody watches.
    """
    if not await asyncio.to_thread(spool.is_dir):
        return
    signs: float | None = None
    while True:
        await asyncio.to_thread(take, spool, tail.journal, host)
        if (sign := _sign(spool)) != signs:
            watchers.hear(host)
            signs = sign
        with suppress(OSError, EdgeflError):  # the journal cannot be read, or written: the next look tries again
            await tail.catch_up()
            if found := missed(tail.state, watchers, host):
                await asyncio.to_thread(tail.journal.append_all, found)
        await asyncio.sleep(LOOK_S)


def _sign(spool: Path) -> float | None:
    try:
        return (spool / ALIVE).stat().st_mtime
    except OSError:
        return None


def take(spool: Path, journal: Journal, host: str) -> None:
    """Everything that lies in the spool; what cannot be read is dropped, what cannot be written waits."""
    for path in sorted(spool.glob("*.json")):
        try:
            journal.append(understood(json.loads(path.read_bytes()), host, "coordinator"))
        except (ValueError, Refused):
            pass
        except (OSError, EdgeflError):
            return
        path.unlink(missing_ok=True)
