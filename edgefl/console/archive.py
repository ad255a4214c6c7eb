"""The journal before the console was opened, and its chain: the monitor's, or a recording's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from edgefl.events import chain
from edgefl.events.chain import Head, Walked
from edgefl.events.schema import Event
from edgefl.monitor.past import Past

_AT_ONCE = 500


class Archive(Protocol):
    """Past events; each method raises EdgeflError when they cannot be had now. `MonitorClient` is one."""

    async def past(self, kinds: Sequence[str], *, before: int = 0, most: int = 200) -> Past:
        """At most `most` events of these kinds before the seq `before`, the newest first."""

    def walk(self, seen: Mapping[int, str] | None = None) -> AsyncGenerator[Walked, None]:
        """Check every event's hash, saying now and then how far the chain holds; the last says where it ends.

        seen: hashes, by seq, of events that were shown before. Raises JournalBroken at the first event that does not verify.
        """


class Recording:
    """A recorded run: its feed tells all that there is, so nothing is before it; its chain begins where it was cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def past(self, kinds: Sequence[str], *, before: int = 0, most: int = 200) -> Past:
        """Nothing."""
        return Past()

    async def walk(self, seen: Mapping[int, str] | None = None) -> AsyncGenerator[Walked, None]:
        """Read the file again and check it. Raises JournalBroken, a lost tail included, or RecordingInvalid."""
        from edgefl.events.replay import header_of, replay

        about = await asyncio.to_thread(header_of, self._path)
        events = replay(self._path)

        def some() -> list[Event]:
            return list(islice(events, _AT_ONCE))

        while checked := await asyncio.to_thread(some):
            for event in checked:
                chain.recognise(Head(event.seq, event.hash), seen or {}, source=str(self._path))
            yield Walked(about.first, Head(checked[-1].seq, checked[-1].hash), about.last)
        chain.recognise_end(Head(about.last, about.head), seen or {}, source=str(self._path))
