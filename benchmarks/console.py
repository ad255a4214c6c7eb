"""How fast and how light the console is on a large fleet: 1,000 devices and 50 events a second.

A process writes a synthetic journal: rounds of 200 of the devices, their updates, ledgers and scores, flags and devices that come
and go now and then; 60 rounds lie behind it. The real monitor serves it behind a real gate over mutual TLS on loopback, and the
real console, in a process of its own on a terminal of its own, follows it with the real client. Its keys lead to each view in
turn; `--seconds` is how long it is measured on each, at 160x50 and at 80x24. Needs haproxy (tools/test-packages).

`loop_lag_p99_ms`: how late a task in the console's loop wakes from 10 ms of sleep, 99th percentile; at most 50.
`cpu_core_fraction`: the console's CPU time over wall time; at most 0.30.
`event_to_screen_p99_ms`: from an event's time in the journal until a frame that holds it is on the terminal; at most 1000.
Each is of the worst view; `views` has them all, and with them `loop_busy_p99_ms`, the loop's own CPU time between two wakes: on a
machine that has other work to do, what the lag would be without it.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import random
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, count, groupby
from operator import itemgetter
from pathlib import Path

from coordinator import coordinator

from edgefl.console.app import Console
from edgefl.console.feed import MonitorFeed, News
from edgefl.console.views import VIEWS
from edgefl.events import schema
from edgefl.events.journal import Journal
from edgefl.infra.inventory import Inventory
from edgefl.monitor.client import MonitorClient

LIMITS = {"loop_lag_p99_ms": 50.0, "cpu_core_fraction": 0.30, "event_to_screen_p99_ms": 1000.0}
SIZES = ((160, 50), (80, 24))
DEVICES = [f"edge-{number:04}" for number in range(1, 1001)]
ASKED = 200
BEHIND = 60
"""Rounds that are in the journal before the console opens: the state then holds all the detail that it ever keeps."""
RATE = 50
SETTLE_S = 1.0
PROBE_S = 0.01
PATIENCE_S = 60.0


def fleet() -> Iterator[schema.Body]:
    """What an `up` of all devices leaves in the journal."""
    now = datetime.now(UTC)
    for number, device in enumerate(DEVICES):
        address = f"10.77.{number // 250}.{number % 250 + 1}"
        yield schema.DeviceFacts(device=device, architecture="aarch64", cores=4, memory_mb=4096, address=address, release="12")
        ends = now + timedelta(hours=20)
        yield schema.CertificateIssued(subject=device, role="device", serial=f"{number:x}", not_before=now, not_after=ends)
        proof = f"{number:064x}"
        yield schema.IsolationProven(device=device, probes=14, open_forbidden=[], closed_required=[], proof_sha256=proof)
        yield schema.DeviceState(device=device, state="online")


def training(chance: random.Random) -> Iterator[tuple[int, schema.Body]]:
    """A run's rounds without end, each event with its round's number: some 620 events a round."""
    said = {"site": "clinic", "site_hash": "ab12", "task": "cardio", "rounds": 500, "quorum": 100, "rule": "guard"}
    yield 0, schema.RunStarted.model_validate({**said, "devices": DEVICES})
    for number in count(1):
        asked = sorted(chance.sample(DEVICES, ASKED))
        yield number, schema.RoundStarted(devices=asked, deadline_s=60, selection="random")
        accuracy, loss = 0.92 - 0.4 * 0.97**number + chance.gauss(0, 0.004), 0.2 + 0.97**number
        for device in asked:
            if chance.random() < 0.05:
                moved = chance.choice(DEVICES)
                yield number, schema.DeviceState(device=moved, state="offline", detail="its heartbeats stopped")
                yield number, schema.DeviceState(device=moved, state="online")
            yield number, update(device, accuracy, loss, chance)
            spent = 0.05 * number + chance.random()
            ledger = {"device": device, "spent": spent, "limit": 40.0, "delta": 1e-5, "sigma": 1.1, "sampling_rate": 0.1}
            yield number, schema.PrivacySpent.model_validate({**ledger, "run_spent": spent, "rounds_left": 700 - number})
        scores = sorted(abs(chance.gauss(0.7, 0.3)) for _ in asked)
        flagged = chance.sample(asked, 2)
        for device in asked:
            for body in judgement(device, scores, is_flagged=device in flagged, chance=chance):
                yield number, body
        result = {"participants": asked, "dropped": [], "rejected": [], "flagged": flagged, "accuracy": accuracy, "loss": loss}
        stages = {"send": 0.3, "train": 9.0, "upload": 0.9, "score": 0.1, "aggregate": 0.1, "evaluate": 0.8}
        yield number, schema.RoundFinished.model_validate({**result, "bytes_up": 2e8, "bytes_down": 1e9, "seconds": stages})


def update(device: str, accuracy: float, loss: float, chance: random.Random) -> schema.UpdateReceived:
    """A device's reply."""
    took = chance.uniform(2, 9)
    spread = chance.gauss(0, 0.03)
    return schema.UpdateReceived(
        device=device,
        samples=chance.randint(90, 1300),
        bytes_up=1_100_000,
        bytes_down=4_000_000,
        train_s=took,
        transfer_s=chance.uniform(0.2, 1.5),
        loss=max(0.1, loss - 4 * spread),
        accuracy=accuracy + spread,
        cpu_s=0.7 * took,
    )


def judgement(device: str, scores: list[float], *, is_flagged: bool, chance: random.Random) -> Iterator[schema.Body]:
    """An update's score, and its flag."""
    score = 5.0 if is_flagged else chance.choice(scores)
    said = {"device": device, "rule": "guard", "score": score, "threshold": 2.5, "reason": "points away" if is_flagged else ""}
    verdict = {"verdict": "reject" if is_flagged else "accept", "weight": 1 / ASKED, "norm": 1.1, "cosine": 0.7}
    yield schema.UpdateScored.model_validate({**said, **verdict, "reputation": 0.98})
    if is_flagged:
        yield schema.FlagRaised.model_validate({**said, "peers": scores})


def write(path: Path) -> None:
    """Write what lies behind, say so, and go on at the rate until somebody ends this process."""
    story = training(random.Random(7))
    with Journal(path) as journal:
        journal.append_all(list(fleet()))
        ahead: tuple[int, schema.Body] | None = None
        for number, told in groupby(story, itemgetter(0)):
            if number > BEHIND:
                ahead = next(told)
                break
            journal.append_all([body for _, body in told], run="4", round=number)
        print("filled", flush=True)
        due = time.monotonic()
        for number, body in chain([ahead] if ahead else [], story):
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / RATE
            if isinstance(body, schema.DeviceState):
                journal.append(body)
            else:
                journal.append(body, run="4", round=number)


@dataclass
class Sample:
    """What was seen of one view, in seconds."""

    lags: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    paints: int = 0

    def figures(self) -> dict[str, float]:
        """As they are published."""
        return {
            "loop_lag_p99_ms": round(1000 * percentile(self.lags), 1),
            "loop_busy_p99_ms": round(1000 * percentile(self.busy), 1),
            "cpu_core_fraction": round(self.cpu_s / self.wall_s, 3),
            "event_to_screen_p99_ms": round(1000 * percentile(self.delays), 1),
            "events_per_s": round(len(self.delays) / self.wall_s, 1),
            "paints_per_s": round(self.paints / self.wall_s, 1),
        }


def percentile(values: Sequence[float], part: float = 0.99) -> float:
    """The value below which this part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Watched(Console):
    """The console, and a note of when each event came to the screen."""

    def __init__(self, monitor: MonitorClient) -> None:
        self.waiting: deque[tuple[int, datetime]] = deque()
        super().__init__(Noting(monitor, self.waiting), controls=monitor)
        self.sample = Sample()
        self.came = asyncio.Event()

    def paint(self) -> None:
        """Paint; once all of it is on the terminal, its events have arrived."""
        super().paint()
        self.call_after_refresh(self._arrived, self.frame.state.seq)

    def _arrived(self, seq: int) -> None:
        now = datetime.now(UTC)
        self.sample.paints += 1
        while self.waiting and self.waiting[0][0] <= seq:
            self.sample.delays.append((now - self.waiting.popleft()[1]).total_seconds())
            self.came.set()


class Noting(MonitorFeed):
    """The monitor's feed, which notes each event as it passes."""

    def __init__(self, monitor: MonitorClient, waiting: deque[tuple[int, datetime]]) -> None:
        super().__init__(monitor)
        self._waiting = waiting

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        """As it comes."""
        async for news in super().news(after):
            if isinstance(news, schema.Event):
                self._waiting.append((news.seq, news.at))
            yield news


def places() -> Iterator[tuple[str, list[str]]]:
    """Each view by its key; the fleet also sorted and filtered, and a page of the kinds that change."""
    for number, view in enumerate(VIEWS, 1):
        key = str(number)
        yield view.NAME, [key]
        if view.NAME == "Fleet":
            yield "a device", [key, "enter"]
            yield "Fleet, sorted", [key, "s", "s", "s"]
            yield "Fleet, filtered", [key, "slash", *"waiting", "enter"]
            yield "", [key, "slash", "escape"]
        if view.NAME == "Rounds":
            yield "a round", [key, "enter"]


async def watch(directory: Path, seconds: float) -> dict[str, dict[str, float]]:
    """The console on this process's terminal, led from view to view; the figures of each."""
    inventory = Inventory.load(directory / ".edgefl" / "inventory.json")
    found = {}
    async with MonitorClient.open(directory / ".edgefl", inventory) as monitor:
        app = Watched(monitor)
        running = asyncio.create_task(app.run_async())
        async with asyncio.timeout(PATIENCE_S):
            await app.came.wait()
        for title, keys in places():
            for key in keys:
                app.simulate_key(key)
                await asyncio.sleep(0.05)
            if title:
                await asyncio.sleep(SETTLE_S)
                found[title] = (await measured(app, seconds)).figures()
        app.exit()
        await running
        if app.crash is not None:
            raise app.crash
    return found


async def measured(app: Watched, seconds: float) -> Sample:
    """What is seen of the console as it stands, for so long."""
    app.sample = sample = Sample()
    began, spent = time.monotonic(), time.process_time()
    while (slept := time.monotonic()) < began + seconds:
        busy = time.thread_time()
        await asyncio.sleep(PROBE_S)
        sample.lags.append(time.monotonic() - slept - PROBE_S)
        sample.busy.append(time.thread_time() - busy)
    sample.wall_s, sample.cpu_s = time.monotonic() - began, time.process_time() - spent
    return sample


def on_terminal(directory: Path, size: tuple[int, int], seconds: float) -> dict[str, dict[str, float]]:
    """Run the console in a process on a terminal of this size; the figures that it leaves behind."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    told = directory / "figures.json"
    told.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--watch", str(directory), "--seconds", str(seconds)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    last: deque[bytes] = deque(maxlen=20)

    def drain() -> None:
        while True:
            try:
                last.append(os.read(ours, 65536))
            except OSError:  # the other end is closed
                return

    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        try:
            code = process.wait(PATIENCE_S + 20 * (seconds + 5))
        finally:
            process.kill()
        reader.join(5)
    os.close(ours)
    if code:
        sys.exit(f"the console ended with {code}: {b''.join(last).decode(errors='replace')[-2000:]}")
    return dict(json.loads(told.read_text()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the figures on one line at the end")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each view is measured")
    for role in ("--write", "--watch"):
        parser.add_argument(role, type=Path, help=argparse.SUPPRESS)  # this program in its other two processes
    given = parser.parse_args()
    if given.write:
        write(given.write)
        return
    if given.watch:
        (given.watch / "figures.json").write_text(json.dumps(asyncio.run(watch(given.watch, given.seconds))))
        return
    views: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="edgefl-console-") as folder, served(Path(folder)):
        for size in SIZES:
            shape = f"{size[0]}x{size[1]}"
            for title, figures in on_terminal(Path(folder), size, given.seconds).items():
                views[f"{title} {shape}"] = figures
                print(f"{title:16} {shape:7}" + "".join(f"  {name} {value:g}" for name, value in figures.items()), flush=True)
    worst = {name: max(figures[name] for figures in views.values()) for name in LIMITS}
    print("worst: " + ", ".join(f"{name} {value:g} (at most {LIMITS[name]:g})" for name, value in worst.items()))
    if given.json:
        print(json.dumps({**worst, "limits": LIMITS, "load": round(os.getloadavg()[0], 1), "views": views}))


@contextmanager
def served(directory: Path) -> Iterator[None]:
    """A coordinator with what lies behind in its journal, and somebody who goes on writing."""
    command = [sys.executable, __file__, "--write", str(directory / "journal.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            if not writer.stdout or writer.stdout.readline() != "filled\n":
                sys.exit("the journal could not be written")
            with coordinator(directory, DEVICES):
                yield
        finally:
            writer.kill()


if __name__ == "__main__":
    main()
