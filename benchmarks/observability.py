"""What it costs to be watched by everything at once, beside a coordinator whose rounds go on.

The real monitor serves a journal behind a real gate over mutual TLS on loopback; a run of 50 devices is written into it, a round
every `--round` seconds, all of its events at once. That is measured twice for `--seconds`: alone, and with all of it on:
Prometheus, Alertmanager and node_exporter as the role configures them and at its own interval, a device's node_exporter that
Prometheus reads over mutual TLS, and on the operator's side `edgefl export traces --follow`, `export mlflow --follow` (to a real
MLflow) and `edgefl notify`. Needs tools/test-packages and the extra `dev`.

`round_overhead`: CPU time that being watched adds on the coordinator (its three programs', and what the monitor and the gate
spend on answering everybody), in cores: the share of a round that a coordinator of one core, busy all the time, would lose; at
most 0.02. What the programs spend on their start is not in it, and is said as `start_cpu_s`.
`device_overhead`: the same on a watched device, its exporter's; at most 0.02. `operator_cores`: what tells services of the
operator's own takes on the operator's machine, where no round is.
`events_lost`: events in the journal that Prometheus does not know of at the end (`fl_journal_last_seq`), and rounds that the
collector or MLflow have not; at most 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coordinator import coordinator
from ruamel.yaml import YAML

from edgefl import layout
from edgefl.events import schema
from edgefl.events.journal import Journal
from edgefl.infra.inventory import Inventory
from tests.monitor import watching
from tests.operations.collector import collecting

LIMITS = {"round_overhead": 0.02, "device_overhead": 0.02, "events_lost": 0}
DEVICES = [f"edge-{number:02}" for number in range(1, 51)]
TOOLS = f"{os.environ.get('PATH', '')}:{sys.prefix}/prometheus/usr/bin"
ENDS = "-----END CERTIFICATE-----\n"
PATIENCE_S = 120.0
SITE = """\
name: clinic
infrastructure: {{module: static}}
coordinator: {{address: {gate}}}
devices:
{devices}
isolation: {{operator_addresses: [127.0.0.1]}}
observability:
  traces: {{endpoint: "{collector}"}}
  mlflow: {{server: "{mlflow}"}}
  notify: {{channels_file: channels}}
"""


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


def spent(before: dict[int, float], of: Iterable[int]) -> float:
    """CPU time since then, of these processes."""
    now = cpu_s()
    return sum(now[pid] - before.get(pid, 0.0) for pid in of if pid in now)


def until(holds: Callable[[], object], what: str) -> None:
    """Wait; ends this process with a word where it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.1)


@contextmanager
def programs(directory: Path, gate: str) -> Iterator[tuple[watching.Prometheus, set[int], set[int]]]:
    """Prometheus, asked; the processes of the coordinator's three programs, and a device's exporter."""
    found = [
        shutil.which(name, path=TOOLS) or sys.exit(f"{name} is missing: tools/test-packages fetches it")
        for name in ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
    ]
    at, alerts_at, host_at, device_at = (watching.free() for _ in range(4))
    shown = (directory / "scraper.crt").read_text().partition(ENDS)
    (directory / "reader.crt").write_text(shown[0] + shown[1])
    watching.render(
        directory,
        observability_identity=str(directory),
        observability_reader=str(directory / "reader.crt"),
        observability_monitor=f"{gate}:{layout.API_PORT}",
        observability_host="coordinator",
        observability_site="clinic",
        observability_alertmanager_listen=alerts_at,
        observability_node_exporter_listen=host_at,
        observability_devices={"edge-01": device_at},
    )
    before = set(cpu_s())
    answers = [found[2], f"--web.listen-address={device_at}", f"--web.config.file={directory / 'exporter.yml'}"]
    told = YAML(typ="safe").load(watching.ROLE / "defaults" / "main.yml")["observability_exporter_collectors"]
    answers += ["--collector.disable-defaults", *(f"--collector.{one}" for one in told if one != "systemd")]
    with ExitStack() as running:
        running.enter_context(watching.running(answers, directory / "device.log", device_at, None))
        device = set(cpu_s()) - before
        listening = [found[2], f"--web.listen-address={host_at}"]
        running.enter_context(watching.running(listening, directory / "node.log", host_at, "/"))
        running.enter_context(watching.alertmanager(found[1], directory, alerts_at))
        asked = running.enter_context(watching.prometheus(found[0], directory, at))
        yield asked, set(cpu_s()) - before - device, device


@contextmanager
def telling(directory: Path, gate: str) -> Iterator[tuple[Callable[[], int], set[int]]]:
    """How many rounds the collector and MLflow have, whoever has fewer; and the processes that tell them."""
    devices = "\n".join(f"  - {{name: {name}, address: 10.77.0.{10 + number}}}" for number, name in enumerate(DEVICES))
    os.environ["DO_NOT_TRACK"] = "true"
    (directory / "mlflow").mkdir()
    with ExitStack() as running:
        taking = running.enter_context(collecting())
        mlflow = running.enter_context(watching.mlflow_server(directory / "mlflow"))
        channel, _ = running.enter_context(watching.receiver())
        (directory / "channels").write_text(f"json://{channel}/\n")
        (directory / "channels").chmod(0o600)
        said = SITE.format(gate=gate, devices=devices, collector=taking.address, mlflow=mlflow)
        (directory / "site.yaml").write_text(said)
        before = set(cpu_s())
        for command in (("export", "traces", "--follow"), ("export", "mlflow", "--follow"), ("notify",)):
            log = running.enter_context((directory / f"{'-'.join(command)}.log").open("wb"))
            words = [sys.executable, "-m", "edgefl", *command, "--site", str(directory)]
            running.callback(_end, subprocess.Popen(words, stdout=log, stderr=log))
        from mlflow.tracking import MlflowClient

        client = MlflowClient(mlflow)

        def rounds() -> int:
            experiment = client.get_experiment_by_name("clinic")
            runs = client.search_runs([experiment.experiment_id]) if experiment else []
            logged = {one.step for run in runs for one in client.get_metric_history(run.info.run_id, "loss")}
            return min(len(logged), sum(one.span.name == "round" for one in taking.spans))

        yield rounds, set(cpu_s()) - before


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def measured(directory: Path, seconds: float, round_s: float) -> dict[str, float]:
    """Alone, then watched."""
    with Journal(directory / "journal.db") as journal, coordinator(directory, DEVICES), ExitStack() as running:
        begun = {"site": "clinic", "site_hash": "", "task": "t", "rounds": 10_000, "quorum": 35, "rule": "guard"}
        journal.append(schema.RunStarted(devices=DEVICES, **begun), run="1")  # type: ignore[arg-type]
        before = cpu_s()
        hub = set(before)
        number = lived(journal, 1, seconds, round_s)
        alone = spent(before, hub)

        gate = Inventory.load(directory / ".edgefl" / "inventory.json").coordinator.address
        asked, beside, device = running.enter_context(programs(directory, gate))
        rounds, telling_ = running.enter_context(telling(directory, gate))
        until(lambda: asked.series("fl_run_active"), "the first reading")
        until(lambda: asked.series('up{job="devices"} == 1'), "the device's first reading")
        until(lambda: rounds() == number - 1, "every round so far in the collector and in MLflow")
        before = cpu_s()
        started = sum(before[pid] for pid in beside)
        number = lived(journal, number, seconds, round_s)
        watched, on_device, told = spent(before, hub | beside), spent(before, device), spent(before, telling_)
        last = journal.head().seq
        until(lambda: asked.series(f"fl_journal_last_seq >= {last}"), "the last event in Prometheus")
        until(lambda: rounds() >= number - 1, "the last round in the collector and in MLflow")
        known = int(float(asked.series("fl_journal_last_seq")[0]["value"][1]))
        lost = last - known + number - 1 - rounds()
    return {
        "round_overhead": (watched - alone) / seconds,
        "events_lost": lost,
        "device_overhead": on_device / seconds,
        "operator_cores": told / seconds,
        "alone_cores": alone / seconds,
        "watched_cores": watched / seconds,
        "start_cpu_s": started,
        "events": last,
        "rounds": number - 1,
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
