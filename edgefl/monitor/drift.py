"""Walls that were changed: what devices tell through the gate, and what the coordinator's own watcher wrote down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI
from pydantic import ValidationError

from edgefl.errors import EdgeflError
from edgefl.events.drift import IsolationDrift
from edgefl.events.journal import Journal
from edgefl.monitor.access import caller
from edgefl.monitor.errors import Busy, Refused

PATH = "/v1/drift"
BETWEEN_S = 30.0
"""A device's reports are taken so far apart at least: one that is owned must not fill the journal."""
LOOK_S = 2.0


def understood(said: Any, host: str, role: str) -> IsolationDrift:
    """A report as its host's event; whose it is, the certificate says. Raises Refused."""
    try:
        return IsolationDrift.model_validate({**said, "type": "isolation_drift", "device": host, "role": role})
    except (ValidationError, TypeError) as error:
        raise Refused(f"not a report of a wall: {str(error).splitlines()[0]}") from error


def add(app: FastAPI, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
    """The one endpoint that is a device's."""
    told: dict[str, float] = {}

    @app.post(PATH, status_code=201)
    async def drift(said: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """A device's walls were changed; it says what was wrong, and whether it is right again."""
        who, now = caller(), clock()
        if who.role != "device":
            raise Refused("only a device tells of its own walls")
        body = understood(said, who.name, "device")
        if now - told.get(who.name, -BETWEEN_S) < BETWEEN_S:
            raise Busy(f"{who.name} has told of its walls less than {BETWEEN_S:g} s ago")
        told[who.name] = now
        return {"seq": (await asyncio.to_thread(journal.append, body)).seq}


async def follow(spool: Path, journal: Journal, host: str) -> None:
    """Tell the journal, for ever, what the coordinator's own watcher wrote down."""
    while True:
        await asyncio.to_thread(take, spool, journal, host)
        await asyncio.sleep(LOOK_S)


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
