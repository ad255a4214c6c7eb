"""Sending a round's messages through Flower's grid and taking the replies as they arrive, each matched to its device.

The edge between Flower's `Grid` and everything else. A reply's sender is known by the message that it answers, never by what it
says of itself: Flower's own error replies carry another node's number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from edgefl.federation.aside import LEFT_OUT, Aside
from edgefl.federation.flower import patches
from edgefl.federation.messages import Undecodable, size, unpack

POLL_S = 0.15
"""How often the coordinator asks its SuperLink for replies; both are on one host."""
FETCHERS = 8
"""How many replies are fetched at once; each may hold four times the model."""
GROWTH = 4
"""How many times larger than its question, or than the model, a reply may be."""
SLACK = 1024 * 1024
"""Bytes that a reply may have besides the model."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A device's reply. said: one of `messages.Reply`, or None when `problem` says why there is none."""

    device: str
    after_s: float
    bytes_up: int
    said: Any
    arrays: Mapping[str, Any]
    problem: str = ""
    undecodable: bool = False


class Exchange:
    """One run's traffic. names: Flower's node id to the device's name, as it is at the moment: a device that comes back from
    quarantine has another node. aside: whom the operator keeps out.
    """

    def __init__(self, grid: Grid, names: Callable[[], Mapping[int, str]], aside: Aside) -> None:
        self._grid, self._names, self._aside = grid, names, aside
        self._fetchers = ThreadPoolExecutor(max_workers=FETCHERS, thread_name_prefix="fetch")

    def online(self) -> dict[str, int]:
        """The devices that the SuperLink counts as online, with their node ids; nodes without a name are nobody's."""
        names = self._names()
        return {names[node]: node for node in self._grid.get_node_ids() if node in names}

    def send(self, kind: str, content: RecordDict, devices: Mapping[str, int], *, group: int, ttl_s: float) -> Pending:
        """Send one content to these devices; see `send_each`."""
        return self.send_each(kind, dict.fromkeys(devices, content), devices, group=group, ttl_s=ttl_s)

    def send_each(
        self,
        kind: str,
        contents: Mapping[str, RecordDict],
        devices: Mapping[str, int],
        *,
        group: int,
        ttl_s: float,
        model_bytes: int = 0,
    ) -> Pending:
        """Send each of these devices its own content. model_bytes: of a whole model, where the contents may be less.

        A message that is not delivered in `ttl_s` never is: a device must not train for a round that is over.
        """
        began = time.monotonic()
        ordered = list(devices.items())
        messages = [Message(contents[device], node, kind, ttl=ttl_s, group_id=str(group)) for device, node in ordered]
        accepted = list(self._grid.push_messages(messages)) if messages else []
        sent = {key: device for key, (device, _) in zip(accepted, ordered, strict=False) if key}
        lost = [device for device in devices if device not in sent.values()]
        largest = max([model_bytes, *(size(contents[device]) for device in devices)])
        return Pending(self._grid, self._fetchers, self._aside, sent, lost, began, GROWTH * largest + SLACK)

    def nothing(self) -> Pending:
        """Nothing under way yet; others can be joined to it."""
        return Pending(self._grid, self._fetchers, self._aside, {}, [], time.monotonic(), SLACK)

    def close(self) -> None:
        """Let go of replies that are still being fetched."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class Pending:
    """Messages under way: each reply is fetched in a thread of its own, so that a slow upload holds nobody else's back.

    waiting: message id to device. lost: devices whose message the SuperLink did not take. began: when sending began, on the
    monotonic clock. most_bytes: of one reply.
    """

    _grid: Grid
    _fetchers: ThreadPoolExecutor
    _aside: Aside
    waiting: dict[str, str]
    lost: list[str]
    began: float
    most_bytes: int
    send_s: float = field(init=False)
    _fetching: dict[Future[Any], str] = field(init=False, default_factory=dict)
    _began: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.send_s = time.monotonic() - self.began
        self._began = dict.fromkeys(self.waiting.values(), self.began)

    @property
    def silent(self) -> list[str]:
        """Devices whose reply has not arrived (wholly) yet."""
        return [*self.waiting.values(), *self._fetching.values()]

    def again(self, kind: str, content: RecordDict, device: str, node: int, *, group: int, ttl_s: float) -> None:
        """Send a device another message in place of the one that it answered; it counts as lost where it is not taken."""
        accepted = list(self._grid.push_messages([Message(content, node, kind, ttl=ttl_s, group_id=str(group))]))
        if accepted and accepted[0]:
            self.waiting[accepted[0]] = device
        else:
            self.lost.append(device)

    @property
    def arriving(self) -> list[str]:
        """Of the silent ones, those whose reply is on its way."""
        return list(self._fetching.values())

    def arrivals(self, deadline_s: float) -> Iterator[Arrival]:
        """Each reply when it has arrived, until all have or the deadline (from sending) is over."""
        while self.waiting or self._fetching:
            left_s = deadline_s - (time.monotonic() - self.began)
            yield from self.some(max(0.0, min(POLL_S, left_s)))
            if left_s <= 0:
                return

    def some(self, limit_s: float) -> list[Arrival]:
        """The replies that have arrived, or do within the limit; for who is kept out from now on, that it is."""
        arrived = [self._left_out(device) for device in self._aside.devices.intersection(self.silent)]
        arrived += list(self._errors(patches.pull_replies(self._grid, list(self.waiting)))) if self.waiting else []
        if self._fetching:
            finished, _ = wait(self._fetching, timeout=0.0 if arrived else limit_s, return_when=FIRST_COMPLETED)
            arrived += [self._arrived(self._fetching.pop(future), future) for future in finished]
        elif self.waiting and not arrived:
            time.sleep(limit_s)
        return arrived

    def _left_out(self, device: str) -> Arrival:
        self.forget(device)
        return Arrival(device, self._after_s(device), 0, None, {}, problem=LEFT_OUT)

    def join(self, other: Pending) -> None:
        """Wait for the other's replies too; each device's time counts from its own message."""
        self.waiting |= other.waiting
        self._began |= other._began
        self.most_bytes = max(self.most_bytes, other.most_bytes)

    def forget(self, device: str) -> None:
        """Wait no more for a device's reply."""
        self.waiting = {key: name for key, name in self.waiting.items() if name != device}
        self._fetching = {future: name for future, name in self._fetching.items() if name != device}

    def _errors(self, replies: list[patches.RawReply]) -> Iterator[Arrival]:
        for reply in replies:
            device = self.waiting.pop(reply.answers, None)
            if device is None:
                continue
            if reply.error is not None:
                yield Arrival(device, self._after_s(device), 0, None, {}, problem=explained(*reply.error))
            else:
                self._fetching[self._fetchers.submit(reply.fetch, self.most_bytes)] = device

    def _arrived(self, device: str, future: Future[Any]) -> Arrival:
        bytes_up = 0
        try:
            content = future.result()
            bytes_up = size(content)
            said, arrays = unpack(content)
        except (patches.BadReply, Undecodable) as error:
            return Arrival(device, self._after_s(device), bytes_up, None, {}, problem=str(error), undecodable=True)
        return Arrival(device, self._after_s(device), bytes_up, said, arrays)

    def _after_s(self, device: str) -> float:
        return time.monotonic() - self._began[device]


def explained(code: int, reason: str | None) -> str:
    """What Flower's error reply means for the operator."""
    # Flower's own words for these are the same each time, and guess at causes that edgefl knows better.
    unspoken = {
        3: "no reply came in time",
        4: "no reply came in time",
        5: "the device went offline during the round",
    }
    if code in unspoken:
        return unspoken[code]
    meanings = {
        1: "the app could not be loaded on the device",
        2: "the app failed on the device",
        8: "the training process on the device was killed",
    }
    meaning = meanings.get(code, f"error {code}")
    return f"{meaning}: {reason}" if reason else meaning
