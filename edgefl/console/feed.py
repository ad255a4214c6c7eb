"""Where the console's news comes from: the monitor, or a recorded run. The app cannot tell them apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from edgefl.errors import NotProvisioned
from edgefl.events.schema import Event
from edgefl.monitor.status import Status

if TYPE_CHECKING:
    from edgefl.events.chain import Walked
    from edgefl.fleet.finding import Finding
    from edgefl.monitor.client import MonitorClient
    from edgefl.monitor.logs import Hearing, LogLine, Wanted
    from edgefl.monitor.past import Past
    from edgefl.operations.logs import SiteLogs
    from edgefl.site.model import Site

Source = TypeVar("Source")


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


class SiteFeed:
    """The monitor of a site that may not be there yet: a feed, controls, logs and an archive, from when `up` has made them.

    Until then each method raises NotProvisioned (or what is wrong with site.yaml), and may be asked again.
    """

    is_live = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._monitor: MonitorClient | None = None
        self._logs: SiteLogs | None = None

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        """One connection's news, as MonitorFeed."""
        from edgefl.operations.logs import SiteLogs
        from edgefl.operations.watch import watching

        site = await asyncio.to_thread(self._site)
        async with watching(site) as monitor:
            self._monitor, self._logs = monitor, SiteLogs(site, monitor)
            try:
                async for news in MonitorFeed(monitor).news(after):
                    yield news
            finally:
                self._monitor = self._logs = None

    async def start_run(self) -> str:
        """Start the run that the site describes; its id."""
        return await self.there().start_run()

    async def stop_run(self, run: str) -> bool:
        """Stop a run; False when it was over already."""
        return await self.there().stop_run(run)

    async def hosts(self) -> Sequence[str]:
        """Every host by name, the coordinator first."""
        return await _there(self._logs).hosts()

    async def follow(self, names: Sequence[str], *, wanted: Wanted) -> AsyncGenerator[LogLine | Hearing, None]:
        """These hosts' lines, as SiteLogs."""
        async with aclosing(_there(self._logs).follow(names, wanted=wanted)) as told:
            async for each in told:
                yield each

    async def services(self, name: str) -> Sequence[Finding]:
        """How each service of a host is, as SiteLogs."""
        return await _there(self._logs).services(name)

    async def past(self, kinds: Sequence[str], *, before: int = 0, most: int = 200) -> Past:
        """A page of past events, as MonitorClient."""
        return await self.there().past(kinds, before=before, most=most)

    async def walk(self, seen: Mapping[int, str] | None = None) -> AsyncGenerator[Walked, None]:
        """Check the whole journal, as MonitorClient."""
        async with aclosing(self.there().walk(seen)) as walked:
            async for each in walked:
                yield each

    def there(self) -> MonitorClient:
        """The monitor that the feed hears now. Raises NotProvisioned while there is none."""
        return _there(self._monitor)

    def _site(self) -> Site:
        """The site, when the operator has an identity: while `up` makes it, nobody else may."""
        from edgefl.site.loading import load, place

        if not place(self._directory).exists():
            raise NotProvisioned(f"there is no site in {self._directory} yet", hint="edgefl init")
        site = load(self._directory)
        if not (site.state / "operator" / "operator.crt").exists():
            raise NotProvisioned(f"{site.name} is not provisioned yet", hint="edgefl up")
        return site


def _there(source: Source | None) -> Source:
    if source is None:
        raise NotProvisioned("the monitor does not answer yet", hint="provision the site, or wait until it stands")
    return source


class ReplayFeed:
    """A recorded run, or a copy of the journal, from a file, at once: how fast it is played is the console's matter."""

    is_live = False

    def __init__(self, path: Path) -> None:
        self._path = path

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        """The recording's events. Raises RecordingInvalid or JournalBroken, as edgefl.events.replay."""
        for event in await asyncio.to_thread(self._read):
            if event.seq > after:
                yield event

    def _read(self) -> list[Event]:
        from edgefl.events.replay import replay

        return list(replay(self._path))
