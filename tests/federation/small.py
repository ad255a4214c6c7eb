"""A whole small federation in one process: the real run, the real devices, and a list of messages instead of Flower."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from flwr.app import RecordDict
from safetensors.numpy import load_file

from edgefl.events.journal import Journal
from edgefl.events.schema import Event
from edgefl.federation import client
from edgefl.federation.aggregation.vectors import Vector
from edgefl.federation.exchange import Arrival
from edgefl.federation.hostconfig import APP_VARIABLE, HostConfig, Places
from edgefl.federation.messages import EvaluateRequest, SecureQuestion, TrainRequest, pack, size, unpack
from edgefl.federation.run import Run
from tests.federation.signers import Signers

DEVICES = ["edge-1", "edge-2", "edge-3", "edge-4"]


class Died(BaseException):
    """The coordinator's process ends here; nothing of it runs any more."""


@dataclass
class Answered:
    """A round's replies, as they are asked for."""

    exchange: InMemory
    replies: list[Arrival]
    looks: int = 0
    due: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    send_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def some(self, _: float) -> list[Arrival]:
        """What has come since this was asked last."""
        self.looks += 1
        came = [reply for reply in self.replies if self.due.get(reply.device, 0) <= self.looks]
        self.replies = [reply for reply in self.replies if reply not in came]
        return came

    def join(self, other: Answered) -> None:
        self.replies += other.replies
        self.due |= {reply.device: self.looks + self.exchange.slow.get(reply.device, 0) for reply in other.replies}

    def forget(self, device: str) -> None:
        self.replies = [reply for reply in self.replies if reply.device != device]

    def arrivals(self, _: float) -> Iterator[Arrival]:
        yield from self.replies

    def again(self, kind: str, content: RecordDict, device: str, node: int, *, group: int, ttl_s: float) -> None:
        self.replies.append(self.exchange.ask(kind, content, device))


@dataclass
class InMemory:
    """The exchange: each device answers at once, in its own places, as its ClientApp would.

    asked: every request's kind and device; heard: the requests themselves. dies_after: so many of them, whatever they ask.
    liars: devices whose updates are none. away: devices that count as offline, though what they were asked before is answered.
    slow: for how many looks for replies an asynchronous run waits for a device's, beyond the next. carried: each question's kind,
    round, bytes down and bytes up. replies: the answers to requests to train.
    """

    devices: Mapping[str, Places]
    asked: list[tuple[str, str]] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    dies_after: int | None = None
    liars: frozenset[str] = frozenset()
    away: set[str] = field(default_factory=set)
    slow: Mapping[str, int] = field(default_factory=dict)
    carried: list[tuple[str, int, int, int]] = field(default_factory=list)
    replies: list[Arrival] = field(default_factory=list)

    def online(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.devices, start=1) if name not in self.away}

    def nothing(self) -> Answered:
        return Answered(self, [])

    def send(self, kind: str, content: RecordDict, devices: Mapping[str, int], **_: float) -> Answered:
        return Answered(self, [self.ask(kind, content, device) for device in devices])

    def send_each(self, kind: str, contents: Mapping[str, RecordDict], devices: Mapping[str, int], **_: float) -> Answered:
        return Answered(self, [self.ask(kind, contents[device], device) for device in devices])

    def ask(self, kind: str, content: RecordDict, device: str) -> Arrival:
        """One device's answer."""
        if len(self.asked) == self.dies_after:
            raise Died
        self.asked.append((kind, device))
        self.heard.append(unpack(content)[0])
        if kind == "train" and device in self.liars:
            return Arrival(device, 0.1, 9, None, {}, problem="it is no update", undecodable=True)
        expected = {"train": TrainRequest, "evaluate": EvaluateRequest, "query": SecureQuestion}[kind]
        reply = pack(*client.answer(content, expected, self.devices[device]))
        said, arrays = unpack(reply)
        arrival = Arrival(device, 0.1, size(reply), said, arrays)
        self.carried.append((kind, self.heard[-1].round, size(content), size(reply)))
        self.replies += [arrival] * (kind == "train")
        return arrival

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Small:
    """Folders of a coordinator and devices; `run` does what the ServerApp does."""

    root: Path
    sections: dict[str, Any]
    devices: Sequence[str] = tuple(DEVICES)

    def __post_init__(self) -> None:
        direction = np.random.default_rng(0).normal(size=10)
        for number, device in enumerate(self.devices):
            data = self.root / device / "data"
            data.mkdir(parents=True)
            x = np.random.default_rng(number).normal(size=(80, 10)).astype(np.float32)
            np.savez(data / "records.npz", x=x, y=(x @ direction > 0).astype(np.int64))
        for host in ("coordinator", *self.devices):
            self.configure(host)
        self.places("coordinator").journal.parent.mkdir(parents=True)

    def configure(self, host: str, **sections: Any) -> None:
        """Write a host's host.json."""
        document = {
            "site": "small",
            "site_hash": "5" * 64,
            "name": host,
            "role": "coordinator" if host == "coordinator" else "device",
            "coordinator": {"name": "coordinator", "address": "127.0.0.1"},
            "task": {"module": "./linear_task.py"},
            "devices": list(self.devices),
            "data": str(self.root / host / "data"),
            **self.sections,
            **sections,
        }
        places = self.places(host)
        places.config.mkdir(parents=True, exist_ok=True)
        places.host.write_text(json.dumps(document))

    def places(self, host: str) -> Places:
        return Places(self.root / host / "etc", self.root / host / "var")

    def certify(self, signers: Signers) -> None:
        """Give each device its signing key, and the coordinator what it checks them by."""
        self.places("coordinator").identity.symlink_to(signers(self.devices[0]))
        for device in self.devices:
            self.places(device).signing.symlink_to(signers(device))

    def run(
        self,
        number: int,
        *,
        dies_after: int | None = None,
        rounds: int = 0,
        liars: frozenset[str] = frozenset(),
        slow: Mapping[str, int] | None = None,
        **options: Any,
    ) -> InMemory:
        """One run to its end, or to what it raises. options: as `edgefl run` passes them on."""
        places = self.places("coordinator")
        there = {device: self.places(device) for device in self.devices}
        exchange = InMemory(there, dies_after=dies_after, liars=liars, slow=slow or {})
        overrides = {"rounds": rounds, "options": json.dumps(options)}
        unpacked = {APP_VARIABLE: str(Path(__file__).parent)}
        with patch.dict(os.environ, unpacked), Journal(places.journal) as journal:
            opened = Run.open(
                HostConfig.load(places.host),
                places,
                exchange,
                journal,
                overrides=overrides,
                run=str(number),  # type: ignore[arg-type]
            )
            opened.work()
        return exchange

    def model(self, run: int, round_: int) -> Vector:
        """The values of a global model, in the order of their names."""
        arrays = load_file(self.places("coordinator").models / str(run) / f"{round_}.safetensors")
        return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])

    def events(self) -> list[Event]:
        with Journal(self.places("coordinator").journal) as journal:
            return list(journal.events())
