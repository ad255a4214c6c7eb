"""What it costs to be watched: Prometheus, Alertmanager and node_exporter beside a coordinator whose rounds go on.

The real monitor serves a journal behind a real gate over mutual TLS on loopback; a run of 50 devices is written into it, a round
every `--round` seconds, all of its events at once. That is measured twice for `--seconds`: alone, and with the three programs as
the role configures them, which read at its own interval. Needs tools/test-packages.

`round_overhead`: CPU time that being watched adds (the three programs', and what the monitor and the gate spend on answering
them), in cores: the share of a round that a coordinator of one core, busy all the time, would lose; at most 0.02. What the
programs spend on their start is not in it, and is said as `start_cpu_s`.
`events_lost`: events in the journal that Prometheus does not know of at the end (`fl_journal_last_seq`); at most 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from coordinator import coordinator

from edgefl import layout
from edgefl.events import schema
from edgefl.events.journal import Journal
from edgefl.infra.inventory import Inventory
from tests.monitor import watching

LIMITS = {"round_overhead": 0.02, "events_lost": 0}
DEVICES = [f"edge-{number:02}" for number in range(1, 51)]
TOOLS = f"{os.environ.get('PATH', '')}:{sys.prefix}/prometheus/usr/bin"
PATIENCE_S = 60.0


def write_round(journal: Journal, number: int) -> None:
    """A round of every device, as the ServerApp says it."""
    chance = random.Random(number)
    bodies: list[schema.Body] = [schema.RoundStarted(devices=DEVICES, deadline_s=60)]
    for name in DEVICES:
        bodies += [
            schema.UpdateReceived(
                device=name, samples=500, bytes_up=120_000, bytes_down=480_000, train_s=4.2, transfer_s=0.4,
                loss=chance.random(), accuracy=chance.random(),
            ),
            schema.PrivacySpent(
                device=name, spent=number / 100, limit=8, delta=1e-5, sigma=1.1, sampling_rate=0.1, run_spent=number / 100
            ),
            schema.UpdateScored(
                device=name, rule="guard", score=chance.random(), threshold=2.5, verdict="accept", weight=1, norm=1, cosine=0.9
            ),
        ]  # fmt: skip
    seconds = {"train": 4.2, "upload": 0.4, "aggregate": 0.1}
    sizes = {"bytes_up": 120_000 * len(DEVICES), "bytes_down": 480_000 * len(DEVICES), "seconds": seconds}
    everyone: dict[str, list[str]] = {"participants": DEVICES, "dropped": [], "rejected": [], "flagged": []}
    bodies.append(schema.RoundFinished(accuracy=0.9, loss=1 / number, **everyone, **sizes))  # type: ignore[arg-type]
    journal.append_all(bodies, run="1", round=number)


def lived(journal: Journal, first: int, seconds: float, round_s: float) -> int:
    """Rounds, one every `round_s`, for so many seconds; the next one's number."""
    began, number = time.monotonic(), first
    while (now := time.monotonic()) < began + seconds:
        write_round(journal, number)
        number += 1
        time.sleep(max(0.0, min(round_s, began + seconds - now)))
    return number


def cpu_s() -> dict[int, float]:
    """CPU time of each process that this one started, by its id."""
    ticks, found = os.sysconf("SC_CLK_TCK"), {}
    for thread in Path("/proc/self/task").iterdir():
        for child in (thread / "children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            found[int(child)] = (int(fields[11]) + int(fields[12])) / ticks
    return found


def spent(before: dict[int, float]) -> float:
    """CPU time since then, of everything that was there then."""
    now = cpu_s()
    return sum(now[pid] - at for pid, at in before.items() if pid in now)


def until(holds: Callable[[], object], what: str) -> None:
    """Wait; ends this process with a word where it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.1)


def measured(directory: Path, seconds: float, round_s: float) -> dict[str, float]:
    """Alone, then watched."""
    with Journal(directory / "journal.db") as journal, coordinator(directory, DEVICES), ExitStack() as running:
        begun = {"site": "clinic", "site_hash": "", "task": "t", "rounds": 10_000, "quorum": 35, "rule": "guard"}
        journal.append(schema.RunStarted(devices=DEVICES, **begun), run="1")  # type: ignore[arg-type]
        before = cpu_s()
        number = lived(journal, 1, seconds, round_s)
        alone = spent(before)

        ports = [watching.free() for _ in range(3)]
        own = directory / ".edgefl"
        for end in ("crt", "key"):  # an operator reads /metrics as a scraper does
            shutil.copy(own / "operator" / f"operator.{end}", directory / f"scraper.{end}")
        gate = Inventory.load(own / "inventory.json").coordinator.address
        watching.render(
            directory,
            observability_identity=str(directory),
            observability_monitor=f"{gate}:{layout.API_PORT}",
            observability_host="coordinator",
            observability_site="clinic",
            observability_alertmanager_listen=ports[1],
            observability_node_exporter_listen=ports[2],
        )
        prometheus, alertmanager, exporter = (
            shutil.which(name, path=TOOLS) or sys.exit(f"{name} is missing: tools/test-packages fetches it")
            for name in ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
        )
        listening = [exporter, f"--web.listen-address={ports[2]}"]
        running.enter_context(watching.running(listening, directory / "node.log", ports[2], "/"))
        running.enter_context(watching.alertmanager(alertmanager, directory, ports[1]))
        asked = running.enter_context(watching.prometheus(prometheus, directory, ports[0]))
        until(lambda: asked.series("fl_run_active"), "the first reading")
        started, before = sum(used for pid, used in cpu_s().items() if pid not in before), cpu_s()
        lived(journal, number, seconds, round_s)
        watched = spent(before)
        last = journal.head().seq
        until(lambda: asked.series(f"fl_journal_last_seq >= {last}"), "the last event in Prometheus")
        known = int(float(asked.series("fl_journal_last_seq")[0]["value"][1]))
    return {
        "round_overhead": (watched - alone) / seconds,
        "events_lost": last - known,
        "alone_cores": alone / seconds,
        "watched_cores": watched / seconds,
        "start_cpu_s": started,
        "events": last,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each of the two is measured")
    parser.add_argument("--round", type=float, default=5.0, help="seconds from one round to the next")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        figures = measured(Path(directory), args.seconds, args.round)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:16} {value:.4g}")
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
