"""What really happened on the lab, in services of the operator's own: traces in a collector, a run in MLflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.monitor.watching import mlflow_server
from tests.operations.collector import collecting

from .conftest import DEVICES, Fleet, last_object

pytestmark = [pytest.mark.e2e, pytest.mark.life]
ROUNDS = 2


@contextmanager
def asking(fleet: Fleet, **observability: dict[str, Any]) -> Iterator[None]:
    """The site with whom to tell, until the block ends. No host hears of it, so nothing need be applied."""
    path = fleet.directory / "site.yaml"
    before = path.read_text()
    path.write_text(f"{before}observability: {json.dumps(observability)}\n")
    try:
        yield
    finally:
        path.write_text(before)


def test_a_runs_rounds_are_traces_and_the_run_is_in_mlflow(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = fleet.edgefl("run", "--rounds", str(ROUNDS), "--json")
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    run = fleet.happened("run_finished")[-1]["run"]
    rounds = {row["round"]: row for row in fleet.happened("round_finished") if row["run"] == run}
    assert sorted(rounds) == [1, 2]

    with collecting() as taking, asking(fleet, traces={"endpoint": taking.address}):
        told = fleet.edgefl("export", "traces", "--json")
        assert told.returncode == 0, told.stdout[-3000:] + told.stderr
        spans = taking.spans
        again = fleet.edgefl("export", "traces", "--json")
        assert again.returncode == 0, again.stderr
        assert len(taking.spans) == len(spans), "what was told is told once"
    roots = {
        one.attributes["edgefl.round"]: one for one in spans if one.span.name == "round" and one.attributes["edgefl.run"] == run
    }
    assert sorted(roots) == [1, 2]
    for number, root in roots.items():
        trace = [one for one in spans if one.span.trace_id == root.span.trace_id]
        assert {one.instance for one in trace if one.service == "edgefl-device"} == set(rounds[number]["participants"])
        stages = {one.span.name for one in trace if one.span.parent_span_id == root.span.span_id}
        assert {"select", "send", "device", "score", "aggregate", "evaluate"} <= stages
        trained = [one.span for one in trace if one.span.name == "train"]
        assert len(trained) == len(rounds[number]["participants"])
        assert all(root.span.start_time_unix_nano <= one.start_time_unix_nano < one.end_time_unix_nano for one in trained)

    monkeypatch.setenv("DO_NOT_TRACK", "true")
    with mlflow_server(tmp_path) as address, asking(fleet, mlflow={"server": address, "experiment": "ward"}):
        from mlflow.tracking import MlflowClient

        said = fleet.edgefl("export", "mlflow", "--json")
        assert said.returncode == 0, said.stdout[-3000:] + said.stderr
        client = MlflowClient(address)
        (found,) = client.search_runs([client.get_experiment_by_name("ward").experiment_id], f"tags.`edgefl.run` = '{run}'")
        history = [(one.step, one.value) for one in client.get_metric_history(found.info.run_id, "accuracy")]
        (name,) = [one.path for one in client.list_artifacts(found.info.run_id, "model") if one.path.endswith(".safetensors")]
        model = Path(client.download_artifacts(found.info.run_id, name, tmp_path)).read_bytes()
        record = json.loads(Path(client.download_artifacts(found.info.run_id, "record.json", tmp_path)).read_bytes())
    assert found.info.status == "FINISHED"
    assert history == [(number, pytest.approx(rounds[number]["accuracy"])) for number in (1, 2)]
    assert hashlib.sha256(model).hexdigest() == found.data.tags["edgefl.model.sha256"]
    assert set(record["privacy"]["devices"]) == set(DEVICES)
    assert last_object(said)
