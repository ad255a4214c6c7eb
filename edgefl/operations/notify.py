"""The operator's own channels are told what the journal says, by Apprise.

It runs where the operator is and reads the journal through the gate, as the console does: the coordinator opens no way out for
it, holds none of its secrets, and cannot take back what it said without breaking the chain that is checked here.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgefl.errors import EdgeflError, ExitCode, Locked
from edgefl.events.chain import Head, JournalBroken
from edgefl.events.schema import Event
from edgefl.monitor.errors import Refused
from edgefl.operations.news import Message, messages, news
from edgefl.operations.watch import lasting
from edgefl.progress import Finished, Progress, Started, Step, Warned
from edgefl.site.model import Site
from edgefl.site.observability import Notify

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient

STAGE = "notify"
_GATHER_S = 2.0
"""What happens within so long of the first is one message."""
_AT_ONCE = 500
_PAUSES_S = (1.0, 4.0, 15.0, 40.0)
"""Before each further attempt at a channel; one that takes nothing by then is passed over, and named."""


class NoChannels(EdgeflError):
    """Nobody can be told."""

    exit_code = ExitCode.USAGE


class Unheard(EdgeflError):
    """A channel did not take a message."""


class _Service(Protocol):
    async def async_notify(self, **message: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class Channel:
    """Where messages go; its address is a secret, so that its place in the file names it."""

    name: str
    service: _Service

    async def take(self, message: Message) -> bool:
        """Whether it took the message, at once or later."""
        said = {"title": message.title, "body": message.body, "notify_type": message.level, "body_format": "text"}
        for pause_s in (*_PAUSES_S, None):
            if await self.service.async_notify(**said):
                return True
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        return False


def channels(path: Path) -> list[Channel]:
    """What the file names, one address a line; `#` begins a comment. Raises NoChannels, naming lines, never what is in them."""
    try:
        import apprise
    except ImportError as error:
        raise NoChannels("messages need Apprise, which is not installed", hint="pip install 'edgefl[notify]'") from error
    try:
        mode, lines = path.stat().st_mode, path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise NoChannels(f"{path} cannot be read: {why}", hint="a channel's address on each line") from error
    if mode & 0o077:
        raise NoChannels(f"others may read {path}, and its addresses are secrets", hint=f"chmod 600 {path}")
    found = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        service = apprise.Apprise.instantiate(line, suppress_exceptions=True)
        if service is None:
            raise NoChannels(f"{path}:{number} is no address that Apprise knows", hint="https://appriseit.com/services/ has all")
        found.append(Channel(f"line {number} ({line.partition('://')[0]})", service))
    if not found:
        raise NoChannels(f"{path} names no channel", hint="a channel's address on each line")
    return found


async def notify(site: Site, *, follow: bool = True, from_now: bool = False) -> AsyncIterator[Progress]:
    """Tell what is new in the journal since it was last told, then go on with what comes; the first time, what comes alone.

    follow: whether to go on. from_now: pass over what was not told yet, and begin with another journal where it was replaced.
    Raises NoChannels, Locked, NotProvisioned, JournalBroken where the journal is not the one that was told of.
    """
    wanted, told = _wanted(site)
    with _position(site) as position:
        async with lasting(site) as monitor:
            head = position.read()
            if head is None or from_now:
                head = await _end(monitor)
                position.write(head)
            yield Started(STAGE, "", f"{len(told)} channels hear of {', '.join(wanted.about)} from event {head.seq + 1} on")
            async with aclosing(_batches(_after(monitor, head, follow=follow))) as batches:
                async for batch in batches:
                    found = [one for event in batch if (one := news(event)) is not None and one.topic in wanted.about]
                    for message in messages(site.name, found):
                        for event in await _tell(told, message):
                            yield event
                    position.write(Head(batch[-1].seq, batch[-1].hash))
            yield Finished(STAGE, "", "everything is told")


async def test(site: Site) -> AsyncIterator[Progress]:
    """Send each channel a message that says so. Raises NoChannels, Unheard."""
    wanted, told = _wanted(site)
    yield Started(STAGE, "", f"{len(told)} channels are tried", total=len(told))
    body = f"edgefl notify tells this channel about: {', '.join(wanted.about)}"
    said = await _tell(told, Message("run", "info", f"{site.name}: a test", body))
    for event in said:
        yield event
    if unheard := [event.subject for event in said if isinstance(event, Warned)]:
        raise Unheard(f"{', '.join(unheard)} took nothing", hint="look at the address, and at the way to it")
    yield Finished(STAGE, "", "every channel took it")


def _wanted(site: Site) -> tuple[Notify, list[Channel]]:
    wanted = site.observability.notify
    if wanted is None:
        hint = "observability: {notify: {channels_file: secrets/channels}}"
        raise NoChannels(f"site.yaml of {site.name} says nothing of messages", hint=hint)
    return wanted, channels(wanted.channels_file)


async def _tell(told: Sequence[Channel], message: Message) -> list[Progress]:
    taken = await asyncio.gather(*(channel.take(message) for channel in told))
    detail = {"topic": message.topic, "level": message.level, "title": message.title}
    hint = "edgefl notify --test tries it"
    return [
        Step(STAGE, channel.name, message.title, changed=True, detail=detail)
        if took
        else Warned(STAGE, channel.name, f"did not take: {message.title}", hint=hint, detail=detail)
        for channel, took in zip(told, taken, strict=True)
    ]


async def _end(monitor: MonitorClient) -> Head:
    """The journal's last event; its hash is known once it was read."""
    seq = (await monitor.status(updates=False)).state.seq
    head = Head()
    async for event in monitor.events(max(0, seq - 1), follow=False):
        head = Head(event.seq, event.hash)
    return head


async def _after(monitor: MonitorClient, head: Head, *, follow: bool) -> AsyncGenerator[Event, None]:
    """Events after the head, once the head itself has been seen to be what it was."""
    other = JournalBroken(head.seq, "it is another one than was told of", source="the coordinator's journal")
    other.hint = "if you replaced the coordinator yourself: edgefl notify --from-now"
    try:
        async for event in monitor.events(max(0, head.seq - 1), follow=follow, patience_s=None if follow else 60.0):
            if event.seq > head.seq:
                yield event
            elif event.hash != head.hash:
                raise other
    except Refused as refused:
        if refused.exit_code != ExitCode.JOURNAL_BROKEN:
            raise
        raise other from refused


async def _batches(events: AsyncGenerator[Event, None]) -> AsyncGenerator[list[Event], None]:
    """What comes within a moment, together."""
    clock: Callable[[], float] = asyncio.get_running_loop().time
    coming: asyncio.Task[Event] | None = None
    batch: list[Event] = []
    ends = 0.0
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            left_s = max(0.0, ends - clock()) if batch else None
            await asyncio.wait({coming}, timeout=left_s)
            if coming.done():
                with suppress(StopAsyncIteration):
                    batch.append(coming.result())
                    coming, ends = None, ends if len(batch) > 1 else clock() + _GATHER_S
                    if len(batch) < _AT_ONCE:
                        continue
            if batch:
                yield batch
            batch = []
            if coming is not None and coming.done():
                return
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await events.aclose()


class _Position:
    """How far the journal was told of, kept beside the site's other working state."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Head | None:
        """None before the first time, or where the file is none of ours."""
        try:
            said = json.loads(self._path.read_text())
            return Head(int(said["seq"]), str(said["hash"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, head: Head) -> None:
        """Keep it; whoever dies meanwhile leaves the one before."""
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps({"seq": head.seq, "hash": head.hash}))
            fresh.replace(self._path)
        except OSError as error:
            raise EdgeflError(f"{self._path} cannot be written: {error.strerror}", hint="the same command goes on") from error


@contextmanager
def _position(site: Site) -> Iterator[_Position]:
    """One process tells of a site. Raises Locked."""
    site.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(site.state / "notify.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another `edgefl notify` tells of {site.name}", hint="one is enough") from None
        yield _Position(site.state / "notified.json")
    finally:
        os.close(descriptor)
