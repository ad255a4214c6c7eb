"""Who is there: the SuperLink's view of devices and runs, compared with the journal's, and written to it where they differ."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

from edgefl.errors import EdgeflError
from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceState, RunFinished
from edgefl.monitor.control import Control, FlowerRun, Node
from edgefl.monitor.device import DeviceRow
from edgefl.monitor.round import RunRow
from edgefl.monitor.tail import Tail

_OUTCOMES: dict[str, Literal["completed", "stopped", "failed"]] = {
    "completed": "completed",
    "stopped": "stopped",
    "failed": "failed",
}


def moves(rows: Mapping[str, DeviceRow], nodes: Iterable[Node]) -> list[DeviceState]:
    """What to write about devices that came or went. A device that was never there is not reported as gone."""
    online = {node.name for node in nodes if node.state == "online"}
    came = [DeviceState(device=name, state="online") for name in sorted(online) if not _is_connected(rows, name)]
    gone = [name for name, row in rows.items() if row.connected and name not in online]
    return [*came, *(DeviceState(device=name, state="offline", detail="its heartbeats stopped") for name in gone)]


def ending(run: RunRow | None, runs: Iterable[FlowerRun]) -> RunFinished | None:
    """How a run ended that the journal believes to be running: its ServerApp died before it could say so, or the SuperLink lost
    its database and knows nothing of it.
    """
    if run is None or run.status != "running":
        return None
    known = next((known for known in runs if known.run == run.id), None)
    if known is not None and known.state != "finished":
        return None
    outcome, why = "failed", "the SuperLink does not know it any more"
    if known is not None:
        outcome, why = known.outcome, known.details or "the ServerApp ended without a word"
    return RunFinished(status=_OUTCOMES.get(outcome, "failed"), reason=why, accuracy=run.accuracy, loss=run.loss)


class Presence:
    """Asks the SuperLink every `poll_s`. problem: why it does not answer; empty while it does. seen: by device."""

    def __init__(self, journal: Journal, tail: Tail, control: Control, *, poll_s: float = 2.0) -> None:
        self.problem = "not asked yet"
        self.seen: dict[str, datetime] = {}
        self._journal = journal
        self._tail = tail
        self._control = control
        self._poll_s = poll_s
        self._ended = ""

    async def follow(self) -> None:
        """Look again and again, for ever; a SuperLink that does not answer changes nothing but `problem`."""
        while True:
            try:
                await self.look()
                self.problem = ""
            except EdgeflError as error:
                self.problem = error.what
            except Exception as error:  # noqa: BLE001 — Flower's internals raise what they like; the monitor outlives it
                self.problem = f"{type(error).__name__}: {error}"
            await asyncio.sleep(self._poll_s)

    async def look(self) -> None:
        """Compare once and write what changed."""
        nodes = await asyncio.to_thread(self._control.nodes)
        now = datetime.now(UTC)
        self.seen.update({node.name: now for node in nodes if node.state == "online"})
        await self._tail.catch_up()
        if changes := moves(self._tail.state.devices, nodes):
            await asyncio.to_thread(self._journal.append_all, changes)
        run = self._tail.state.run
        if run is not None and run.status == "running":
            end = ending(run, await asyncio.to_thread(self._control.runs))
            if end is not None and self._ended == run.id:  # twice in a row: the ServerApp's own word may be on its way
                await asyncio.to_thread(self._journal.append, end, run=run.id)
            self._ended = run.id if end is not None else ""


def _is_connected(rows: Mapping[str, DeviceRow], name: str) -> bool:
    row = rows.get(name)
    return row is not None and bool(row.connected)
