"""What of a federation's journal and logs each place that it was told to really has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edgefl.events import schema
from edgefl.lab.hosts import Lab
from tests.operations.collector import Collector

_JOURNAL = """\
import json, sys
from edgefl import layout
from edgefl.events.journal import Journal
with Journal(layout.JOURNAL) as journal:
    for record in journal.records():
        print(json.dumps(record))
"""
_ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
_COUNTERS = '{__name__=~"fl_journal_last_seq|fl_rounds_total|fl_model_updates_total"}'


@dataclass(slots=True)
class Known:
    """How often a place has what: in all for counters, once for what has a name of its own."""

    prometheus: Counter[str] = field(default_factory=Counter)
    collector: Counter[str] = field(default_factory=Counter)
    mlflow: Counter[str] = field(default_factory=Counter)

    def lacks(self, other: Known) -> Iterator[str]:
        """What the other place has more often or less often than this, a line each time; what this knows nothing of is left."""
        for place in ("prometheus", "collector", "mlflow"):
            want, have = getattr(self, place), getattr(other, place)
            for what, times in want.items():
                yield from [f"{place}: {what} {have[what]} times, not {times}"] * abs(times - have[what])


def happened(lab: Lab, coordinator: str) -> list[schema.Event]:
    """The journal, read where it lies and by nobody's interface."""
    python = ["env", "PYTHONPATH=/opt/edgefl/current", "/opt/edgefl/venv/bin/python", "-c", _JOURNAL]
    done = lab.execute(coordinator, python)
    if done.returncode:
        raise RuntimeError(f"the journal cannot be read: {done.stderr}")
    return [schema.Event.model_validate_json(line) for line in done.stdout.splitlines()]


def due(events: Sequence[schema.Event]) -> Known:
    """What everybody is to have of these events."""
    known = Known()
    count = known.prometheus
    count["events"] = events[-1].seq
    for event in events:
        name = f"round {event.run}/{event.round}"
        match event.body:
            case schema.RoundFinished() as body:
                count["rounds finished"] += 1
                known.collector[name] = 1
                known.mlflow[name] = int(body.loss is not None)
            case schema.RoundSkipped():
                count["rounds skipped"] += 1
                known.collector[name] = 1
            case schema.UpdateReceived(device=device):
                count[f"{device} received"] += 1
                known.collector[f"{name} {device}"] = 1
            case schema.UpdateRejected(device=device):
                count[f"{device} rejected"] += 1
            case schema.DeviceDropped(device=device):
                count[f"{device} missing"] += 1
    return known


def series(lab: Lab, coordinator: str, expression: str) -> list[dict[str, Any]]:
    """What the coordinator's Prometheus says, asked there; nothing while it does not answer."""
    url = f"http://127.0.0.1:9090/api/v1/query?{urlencode({'query': expression})}"
    said = lab.execute(coordinator, ["python3", "-c", _ASK, url])
    return list(json.loads(said.stdout)["data"]["result"]) if said.returncode == 0 else []


def counted(found: Iterable[dict[str, Any]]) -> Counter[str]:
    """Prometheus' counters, under the names that `due` has for them."""
    count: Counter[str] = Counter()
    for one in found:
        labels, value = one["metric"], int(float(one["value"][1]))
        match labels["__name__"]:
            case "fl_rounds_total":
                count[f"rounds {labels['result']}"] = value
            case "fl_model_updates_total":
                count[f"{labels['device']} {labels['result']}"] = value
            case _:
                count["events"] = value
    return count


def traced(taking: Collector) -> Counter[str]:
    """Rounds that a collector has a span of, and the devices' parts in them."""
    spans = taking.spans
    rounds = {
        one.span.trace_id: f"round {one.attributes['edgefl.run']}/{one.attributes['edgefl.round']}"
        for one in spans
        if one.span.name == "round"
    }
    devices = {(one.span.trace_id, one.instance) for one in spans if one.span.name == "device"}
    return Counter([*set(rounds.values()), *{f"{rounds[trace]} {device}" for trace, device in devices if trace in rounds}])


def tracked(address: str, experiment: str) -> Counter[str]:
    """Rounds that MLflow has the loss of."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    steps = {
        f"round {run.data.tags['edgefl.run']}/{one.step}"
        for run in runs
        for one in client.get_metric_history(run.info.run_id, "loss")
    }
    return Counter(steps)


def told(lab: Lab, coordinator: str, taking: Collector, mlflow: str, experiment: str) -> Known:
    """What everybody has now."""
    return Known(counted(series(lab, coordinator, _COUNTERS)), traced(taking), tracked(mlflow, experiment))


def lines(text: str) -> set[str]:
    """The `event.id` of each ECS document, one a line."""
    return {json.loads(line)["event"]["id"] for line in text.splitlines()}


def shipped(directory: Path) -> set[str]:
    """The same of what `edgefl logs --into` wrote."""
    return {one for path in directory.glob("edgefl*.ndjson") for one in lines(path.read_text())}
