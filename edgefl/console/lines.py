"""The lines of the hosts' logs that the console holds: merged by time, bounded, and read for as long as somebody may look.

Nothing here knows Textual, nor how a host is reached: the Logs view runs `Lines.follow` in a worker and draws `Lines.held`.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from edgefl.errors import EdgeflError
from edgefl.fleet.finding import Finding
from edgefl.monitor.logs import Hearing, LogLine, Wanted

MOST_LINES = 5000
"""Lines that are held; of more, the oldest go."""
MOST_HOSTS = 32
"""Hosts that are read at once: each is a connection."""
RETRY_S = 5.0


class LogSource(Protocol):
    """Where lines, and how services are, come from; each method raises EdgeflError when there are none for now."""

    async def hosts(self) -> Sequence[str]:
        """Every host by name, the coordinator first."""

    def follow(self, names: Sequence[str], *, wanted: Wanted) -> AsyncGenerator[LogLine | Hearing, None]:
        """The last lines of these hosts and all that is written from now. A host that cannot be read is a Hearing."""

    async def services(self, name: str) -> Sequence[Finding]:
        """How each service of a host is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line as it is held. number: in the order of arrival. fields: what a filter sees of it."""

    number: int
    line: LogLine
    fields: Mapping[str, str]

    @property
    def place(self) -> tuple[datetime, int]:
        """Where it stands among the others."""
        return self.line.at, self.number


class Lines:
    """What was read so far.

    held: by time, the oldest first. arrived: how many lines have come. hosts: those that are read; left_out: how many more
    there are. lost: the hosts that cannot be read now. problem: why nothing can be read at all.
    """

    def __init__(self, source: LogSource, told: Callable[[], None], *, most: int = MOST_LINES) -> None:
        self.held: list[Entry] = []
        self.arrived = 0
        self.hosts: tuple[str, ...] = ()
        self.left_out = 0
        self.lost: dict[str, Hearing] = {}
        self.problem = ""
        self._source = source
        self._told = told
        self._most = most

    async def follow(self, names: Sequence[str], since: datetime | None = None) -> None:
        """Read the named hosts until it is cancelled; without names all of them, or of a large fleet the coordinator alone.

        since: what each wrote from then on, as many lines as are held; without it, the last few.
        """
        self.held, self.hosts, self.left_out, self.lost, self.problem = [], (), 0, {}, ""
        wanted = Wanted(follow=True) if since is None else Wanted(follow=True, since=since, lines=self._most)
        while True:
            try:
                self._choose(names, await self._source.hosts())
                self._told()
                async with aclosing(self._source.follow(self.hosts, wanted=wanted)) as told:
                    async for each in told:
                        self._take(each)
                        self._told()
                self.problem = "the logs have ended"
            except EdgeflError as error:
                self.problem = f"{error.what}; next: {error.hint}" if error.hint else error.what
            self._told()
            await asyncio.sleep(RETRY_S)

    def _choose(self, names: Sequence[str], known: Sequence[str]) -> None:
        wanted = [name for name in known if name in names] if names else known
        if not wanted:
            raise EdgeflError(f"no host is called {' or '.join(names)}", hint="edgefl up")
        some = list(wanted) if len(wanted) <= MOST_HOSTS else list(wanted)[: MOST_HOSTS if names else 1]
        self.hosts, self.left_out, self.problem = tuple(some), len(wanted) - len(some), ""

    def _take(self, each: LogLine | Hearing) -> None:
        if isinstance(each, LogLine):
            self.arrived += 1
            insort(self.held, Entry(self.arrived, each, _fields(each)), key=lambda entry: entry.place)
            if len(self.held) > self._most:
                del self.held[: len(self.held) - self._most]
        elif each.problem:
            self.lost[each.host] = each
        else:
            self.lost.pop(each.host, None)


def _fields(line: LogLine) -> Mapping[str, str]:
    return {"host": line.host, "unit": short(line.unit), "level": line.level, "message": line.message}


def short(unit: str) -> str:
    """A unit's name without what all of edgefl's have in common."""
    return unit.removeprefix("edgefl-")
