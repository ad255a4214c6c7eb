"""Where the console's news comes from: the monitor, or a recorded run. The app cannot tell them apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgefl.events.schema import Event
from edgefl.monitor.status import Status

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The source is there and has nothing new."""


News = Status | Event | Heartbeat
"""A Status is everything up to its state's seq at once: a console does not have to hear a long journal from its beginning."""


class Feed(Protocol):
    """A source of events.

    is_live: whether ages are counted from the wall clock; a recording's time is that of its last event.
    """

    is_live: bool

    def news(self, after: int) -> AsyncGenerator[News, None]:
        """Every event with a seq above `after`, in order, without gaps or duplicates; with `after` 0 perhaps a Status first.

        Ends when there will never be more; raises EdgeflError when the source is lost for now (it may be asked again).
        """


class MonitorFeed:
    """The site's monitor: its status first, then every event as it is written."""

    is_live = True

    def __init__(self, monitor: MonitorClient) -> None:
        self._monitor = monitor

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        """One connection's news. Raises MonitorUnreachable, and JournalBroken when events are missing or changed."""
        if after == 0:
            status = await self._monitor.status()
            after = status.state.seq
            yield status
        async for event in self._monitor.stream(after):
            yield Heartbeat() if event is None else event


class ReplayFeed:
    """A recorded run from a file, at once or at `speed` times its own pace."""

    is_live = False

    def __init__(self, path: Path, *, speed: float = 0.0) -> None:
        self._path = path
        self._speed = speed

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        """The recording's events. Raises RecordingInvalid or JournalBroken, as edgefl.events.replay."""
        previous: Event | None = None
        for event in await asyncio.to_thread(self._read):
            if self._speed > 0 and previous is not None:
                await asyncio.sleep((event.at - previous.at).total_seconds() / self._speed)
            previous = event
            if event.seq > after:
                yield event

    def _read(self) -> list[Event]:
        from edgefl.events.replay import replay

        return list(replay(self._path))
