"""The services' logs of any hosts of a site: the coordinator's from its monitor, devices' over SSH."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet.finding import Finding
from edgefl.infra.inventory import Host
from edgefl.monitor.client import MonitorClient
from edgefl.monitor.logs import MOST_LINES, Hearing, LogLine, Wanted, parse
from edgefl.operations.state import inventory_of
from edgefl.operations.watch import watching
from edgefl.site.model import Site

_QUEUED = 1000
"""Lines that wait to be shown before the hosts have to."""
_SILENT_S = 24 * 3600.0
"""A followed host may have nothing to say for a day."""
_MISSED = 5000
"""Lines that a host may have written while it could not be read."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_NEWEST = Wanted()
_NOWHERE: Mapping[str, datetime] = {}
T = TypeVar("T")


class NoSuchHost(EdgeflError):
    """The site has no host of that name."""

    exit_code = ExitCode.USAGE


async def read(site: Site, names: Sequence[str], wanted: Wanted, *, everywhere: bool = False) -> AsyncGenerator[LogLine, None]:
    """Lines of the named hosts (none: the coordinator), merged by time; with `wanted.follow` as they are written.

    Raises NoSuchHost, MonitorUnreachable or DeviceUnreachable.
    """
    hosts = _hosts(site, names, everywhere=everywhere)
    async with watching(site) as monitor:
        merged = _followed if wanted.follow else _gathered
        async with aclosing(merged([_of(host, monitor, wanted) for host in hosts])) as lines:
            async for line in lines:
                yield line


def _hosts(site: Site, names: Sequence[str], *, everywhere: bool) -> list[Host]:
    inventory = inventory_of(site)
    if everywhere:
        return list(inventory.hosts)
    known = {host.name: host for host in inventory.hosts}
    if unknown := [name for name in names if name not in known]:
        raise NoSuchHost(f"the site has no host {unknown[0]!r}", hint=f"one of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] or [inventory.coordinator]


class SiteLogs:
    """The logs of a site's hosts, and how their services are, for whoever goes on looking.

    A host whose log cannot be read is said, and asked again.
    """

    def __init__(self, site: Site, monitor: MonitorClient) -> None:
        self._site = site
        self._monitor = monitor

    async def hosts(self) -> list[str]:
        """Every host by name, the coordinator first. Raises NotProvisioned."""
        return [host.name for host in await asyncio.to_thread(_hosts, self._site, [], everywhere=True)]

    async def services(self, name: str) -> list[Finding]:
        """How a host's services are: runs, or what ails it and what to do. Raises NoSuchHost, DeviceUnreachable."""
        from edgefl.fleet import doctor, facts

        host = (await asyncio.to_thread(_hosts, self._site, [name], everywhere=False))[0]
        return list(doctor.services(host, self._site, await facts.gather(host, services=True)))

    async def follow(
        self, names: Sequence[str], *, wanted: Wanted = _NEWEST, since: Mapping[str, datetime] = _NOWHERE
    ) -> AsyncGenerator[LogLine | Hearing, None]:
        """The last lines of each named host and all that is written from now; never ends. Raises NoSuchHost, NotProvisioned.

        since: hosts that are gone on with from there instead.
        """
        hosts = await asyncio.to_thread(_hosts, self._site, names, everywhere=False)
        wanted = replace(wanted, follow=True)
        begins = {name: replace(wanted, since=at, lines=MOST_LINES) for name, at in since.items()}
        sources = [_kept(partial(_of, host, self._monitor), host.name, begins.get(host.name, wanted)) for host in hosts]
        async with aclosing(_followed(sources)) as told:
            async for each in told:
                yield each


async def _kept(
    read: Callable[[Wanted], AsyncGenerator[LogLine, None]], host: str, wanted: Wanted
) -> AsyncGenerator[LogLine | Hearing, None]:
    """A host's lines across lost connections, each once."""
    pause_s, is_heard, at_newest = _FIRST_PAUSE_S, True, set[LogLine]()
    while True:
        lost = Hearing(host, "its log ended")
        try:
            async with aclosing(read(wanted)) as lines:
                async for line in lines:
                    if not is_heard:
                        is_heard, pause_s = True, _FIRST_PAUSE_S
                        yield Hearing(host)
                    if line in at_newest:
                        continue  # journalctl's --since has the last one again
                    at_newest = {line} if line.at != wanted.since else {*at_newest, line}
                    wanted = replace(wanted, since=line.at, lines=_MISSED)
                    yield line
        except EdgeflError as error:
            lost = Hearing(host, error.what, error.hint)
        is_heard = False
        yield lost
        await asyncio.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


async def _of(host: Host, monitor: MonitorClient, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
    from edgefl.fleet import ssh

    if host.role == "coordinator":
        async for line in monitor.logs(wanted):
            yield line
    elif wanted.follow:
        async with ssh.converse(host, wanted.command(), timeout_s=_SILENT_S) as said:
            while True:
                found = parse((await said.line()).decode(errors="replace"), host.name)
                if found is not None and found.has(wanted.text):
                    yield found
    else:
        texts = (await ssh.run(host, wanted.command())).text().splitlines()
        for line in wanted.of([found for text in texts if (found := parse(text, host.name)) is not None]):
            yield line


async def _gathered(sources: list[AsyncGenerator[LogLine, None]]) -> AsyncGenerator[LogLine, None]:
    """All there is, by time."""

    async def whole(source: AsyncGenerator[LogLine, None]) -> list[LogLine]:
        return [line async for line in source]

    tasks = [asyncio.create_task(whole(source)) for source in sources]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        await _ended(tasks)
    for line in heapq.merge(*found, key=lambda line: line.at):
        yield line


async def _followed(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Each as it comes, until every source has ended or one fails."""
    queue: asyncio.Queue[T] = asyncio.Queue(_QUEUED)

    async def feed(source: AsyncGenerator[T, None]) -> None:
        async with aclosing(source):
            async for line in source:
                await queue.put(line)

    tasks = [asyncio.create_task(feed(source)) for source in sources]
    feeding: asyncio.Future[Any] = asyncio.gather(*tasks)
    try:
        while not feeding.done() or not queue.empty():
            coming = asyncio.create_task(queue.get())
            either: set[asyncio.Future[Any]] = {coming, feeding}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                break
            yield coming.result()
        feeding.result()
    finally:
        await _ended(tasks)


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
