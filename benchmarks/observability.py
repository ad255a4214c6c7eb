"""What it costs a federation to be watched by everything at once: real rounds on the lab, with all of it on and off in turns.

`edgefl up` brings it as to any site: Prometheus, Alertmanager and node_exporter to the coordinator, node_exporter to each device,
by the role's own units. On the operator's side run `edgefl export traces --follow`, `export mlflow --follow` (to a real MLflow),
`notify`, and `logs --all --into`, which holds a journalctl on each host and an SSH connection to each device. In one run all of
that is on, off, on and so on, for `--seconds` each; what starting takes is in none of them. Off means that the units are stopped
and the operator's programs ended. Needs root, tools/test-packages and the extra `dev`.

`round_overhead`: CPU time that being watched adds on the host where it adds most, as a share of the time and of one core; at most
0.02. By so much do rounds get longer on a host of one core that is always busy, and by less on others. It can be told from none,
which the rounds' own seconds cannot: they vary by more from one to the next, and here the operator's side takes the same cores.
Counted is all on a host but the services that train (who watches, and who answers: monitor, gate, journald, sshd, D-Bus), and of
that what is more than with all of it off. `round_overhead_least`, `_most`: of single turns, each off against the on around it.
`round_seconds_ratio`: a round's mean seconds with all of it on against off; `round_seconds_error` is its standard error.
`cpu_ratio`: what is added on all hosts, against all that they spend with it off, training included.
`events_lost`, counted when all has arrived or half a minute after the run: how far Prometheus' counters (of events, of rounds and
updates by how they ended) are from the journal's own events, and rounds and devices' parts that the collector or MLflow has not;
at most 0.
`log_lines_lost`: lines of the hosts' logs that `logs --into` has not written by then; at most 0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean, variance

import sinks
from life import Fleet, prepare
from processes import Spent, family_cpu_s, spent
from verdict import verdict

from edgefl.events.schema import Event, RoundStarted
from tests.monitor.watching import mlflow_server, receiver
from tests.operations.collector import Collector, collecting

LIMITS = {"round_overhead": 0.02, "events_lost": 0, "log_lines_lost": 0}
UNITS = {"coordinator": ("prometheus", "alertmanager", "node-exporter"), "device": ("node-exporter",)}
COMMANDS = ("export traces --follow", "export mlflow --follow", "notify")
ARRIVES_WITHIN_S = 30.0
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A while with everything on, or off. cores: by host, CPU seconds a second."""

    is_on: bool
    began: float
    ended: float
    cores: Mapping[str, Spent]
    operator_cores: float


@dataclass(slots=True)
class Watched:
    """A fleet with everything that watches it. shipped: where `logs --into` writes."""

    fleet: Fleet
    taking: Collector
    mlflow: str
    shipped: Path
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    telling: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        """The coordinator, and the devices."""
        return [host.name for host in self.fleet.site.hosts]

    @property
    def coordinator(self) -> str:
        """Its name."""
        return self.fleet.site.coordinator.name

    def units(self, do: str) -> None:
        """Start or stop what watches on the hosts."""
        for host in self.hosts:
            names = UNITS["coordinator" if host == self.coordinator else "device"]
            done = self.fleet.lab.execute(host, ["systemctl", do, *(f"edgefl-{name}" for name in names)])
            if done.returncode:
                sys.exit(f"{host}: {done.stderr}")

    @contextmanager
    def on(self) -> Iterator[None]:
        """With all of it; the block begins when everybody has heard of what was before."""
        began = time.time()
        self.units("start")
        try:
            for command in (*COMMANDS, f"logs --all --into {self.shipped}"):
                with (self.fleet.directory / f"{command.split()[0]}.log").open("ab") as log:
                    self.telling.append(subprocess.Popen(self.fleet.command(command), stdout=log, stderr=log))
            read = f"count(up == 1 and timestamp(up) > {began:.0f}) == {len(self.hosts) + 1}"
            until(lambda: self.series(read), "a reading of every host and of the monitor")
            events = sinks.happened(self.fleet.lab, self.coordinator)
            until(lambda: not any(self.lacks(events, counters=False)), "what was before in the collector and in MLflow")
            until(lambda: self.shipped.exists() and not self.unshipped(), "what was before in the shipped logs")
            yield
        finally:
            for process in self.telling:
                process.terminate()
            for process in self.telling:
                process.wait(30)
            self.telling.clear()
            self.units("stop")

    def turn(self, seconds: float, *, is_on: bool) -> Turn:
        """Let so much time go by, and nothing else."""
        lab, hosts, telling = self.fleet.lab, self.hosts, [process.pid for process in self.telling]
        before, told, began = spent(lab, hosts), family_cpu_s(telling), time.time()
        time.sleep(seconds)
        after, ended = spent(lab, hosts), time.time()
        for process in self.telling:
            if process.poll() is not None:
                sys.exit(f"{process.args!r} ended with {process.returncode}")
        length = ended - began
        cores = {
            host: Spent(
                (after[host].training - before[host].training) / length, (after[host].beside - before[host].beside) / length
            )
            for host in hosts
        }
        return Turn(is_on, began, ended, cores, (family_cpu_s(telling) - told) / length)

    def series(self, expression: str) -> bool:
        """Whether Prometheus has any such series."""
        return bool(sinks.series(self.fleet.lab, self.coordinator, expression))

    def lacks(self, events: Sequence[Event], *, counters: bool = True) -> list[str]:
        """What of these events somebody has not. counters: Prometheus', too, which go on while a run does."""
        due = sinks.due(events)
        if not counters:
            due.prometheus.clear()
        have = sinks.told(self.fleet.lab, self.coordinator, self.taking, self.mlflow, self.fleet.site.name)
        return list(due.lacks(have))

    def unshipped(self) -> list[str]:
        """Lines of the hosts' logs since the first were shipped that are not where a shipper reads them."""
        asked = ["--all", "--format", "ecs", "--lines", "10000", "--since", self.since.isoformat()]
        done = subprocess.run(self.fleet.command("logs", *asked), capture_output=True, text=True, check=True)
        return sorted(sinks.lines(done.stdout) - sinks.shipped(self.shipped))


def until(holds: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait; ends this process with a word where it does not come."""
    if not within(holds, within_s):
        sys.exit(f"{what} did not come within {within_s:.0f} s")


def within(holds: Callable[[], object], seconds: float) -> bool:
    """Whether it comes in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


@contextmanager
def watched(directory: Path, devices: int) -> Iterator[Watched]:
    """A site of so many lab devices, provisioned with everything that watches, and the services that are told."""
    fleet = Fleet(directory / "site")
    prepare(fleet.directory, devices)
    os.environ["DO_NOT_TRACK"] = "true"
    (directory / "mlflow").mkdir()
    with ExitStack() as running:
        taking = running.enter_context(collecting())
        mlflow = running.enter_context(mlflow_server(directory / "mlflow"))
        channel, _ = running.enter_context(receiver())
        channels = fleet.directory / "channels"
        channels.touch(0o600)
        channels.write_text(f"json://{channel}/\n")
        site = json.loads((fleet.directory / "site.yaml").read_text())
        told = {"traces": {"endpoint": taking.address}, "mlflow": {"server": mlflow}, "notify": {"channels_file": channels.name}}
        site["observability"] = {"prometheus": True, "devices": True, **told}
        (fleet.directory / "site.yaml").write_text(json.dumps(site))
        running.callback(fleet.edgefl, "down", "--yes")
        fleet.edgefl("up")
        yield Watched(fleet, taking, mlflow, directory / "shipped")


def measured(fleet: Watched, seconds: float, pairs: int) -> dict[str, float]:
    """On, then off and on for each pair, in one run; and what was lost."""
    turns = []
    with ExitStack() as last:
        with fleet.fleet.training():
            for _ in range(pairs):
                with fleet.on():
                    turns.append(fleet.turn(seconds, is_on=True))
                turns.append(fleet.turn(seconds, is_on=False))
                on, off = (next(iter(turn.cores.values())).beside for turn in turns[-2:])
                sys.stderr.write(f"cores that the coordinator spends beside training: {on:.4f}, off {off:.4f}\n")
            last.enter_context(fleet.on())
            turns.append(fleet.turn(seconds, is_on=True))
        events = sinks.happened(fleet.fleet.lab, fleet.coordinator)
        within(lambda: not (fleet.lacks(events) or fleet.unshipped()), ARRIVES_WITHIN_S)
        lost, unshipped = fleet.lacks(events), fleet.unshipped()
    sys.stderr.writelines(f"lost: {one}\n" for one in (*lost, *unshipped))
    return {
        **overhead(turns),
        **compared(turns, events),
        "events_lost": len(lost),
        "log_lines_lost": len(unshipped),
        "events": len(events),
    }


def overhead(turns: Sequence[Turn]) -> dict[str, float]:
    """Cores that being on adds: each turn off against the mean of the two around it."""
    hosts = list(turns[0].cores)
    triples = list(zip(turns[::2], turns[1::2], turns[2::2], strict=False))
    added = {
        host: [(one.cores[host].beside + two.cores[host].beside) / 2 - off.cores[host].beside for one, off, two in triples]
        for host in hosts
    }
    most = max(hosts, key=lambda host: fmean(added[host]))
    alone = sum(fmean(off.cores[host].beside + off.cores[host].training for _, off, _ in triples) for host in hosts)
    return {
        "round_overhead": fmean(added[most]),
        "round_overhead_least": min(added[most]),
        "round_overhead_most": max(added[most]),
        "coordinator_overhead": fmean(added[hosts[0]]),
        "device_overhead": max(fmean(added[host]) for host in hosts[1:]),
        "cpu_ratio": sum(fmean(added[host]) for host in hosts) / alone,
        "operator_cores": fmean(turn.operator_cores for turn in turns[::2]),
    }


def compared(turns: Sequence[Turn], events: Sequence[Event]) -> dict[str, float]:
    """The rounds' own seconds, by the journal: of those that began and ended within a turn. No ratio where they are too few."""
    starts = [event.at.timestamp() for event in events if isinstance(event.body, RoundStarted)]
    on: list[float] = []
    off: list[float] = []
    for began, ended in pairwise(starts):
        for turn in turns:
            if turn.began <= began and ended <= turn.ended:
                (on if turn.is_on else off).append(ended - began)
    found: dict[str, float] = {"rounds_on": len(on), "rounds_off": len(off)}
    if min(len(on), len(off)) > 1:
        ratio = fmean(on) / fmean(off)
        error = ratio * (variance(on) / len(on) / fmean(on) ** 2 + variance(off) / len(off) / fmean(off) ** 2) ** 0.5
        found |= {"round_seconds_ratio": ratio, "round_seconds_error": error, "round_seconds_off": fmean(off)}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="how long everything is on, or off; Prometheus reads every 15"
    )
    parser.add_argument("--pairs", type=int, default=2, help="how often it is off")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    args = parser.parse_args(arguments)
    if min(args.devices, args.pairs) < 1 or args.seconds <= 0:
        parser.error("at least a device, a pair and a while")
    if os.geteuid():
        sys.exit("the lab needs root")
    with tempfile.TemporaryDirectory(prefix="edgefl-watched-") as directory, watched(Path(directory), args.devices) as fleet:
        figures = measured(fleet, args.seconds, args.pairs)
    return verdict(figures, LIMITS, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
