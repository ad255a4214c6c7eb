"""`edgefl export` as a user types it: a real run's journal and models behind a real gate, told to real services."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgefl.cli.main import run as edgefl
from edgefl.errors import ExitCode
from edgefl.events import schema as s
from edgefl.events.journal import Journal
from edgefl.federation.checkpoint import Models
from tests.federation.small import DEVICES, Small
from tests.monitor.conftest import Service, wait_for
from tests.monitor.happened import finished, started, updates
from tests.monitor.watching import free, mlflow_server
from tests.operations.collector import Collector, collecting

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow
ROUNDS = 2
SECTIONS = {
    "site": "clinic",
    "run": {"rounds": ROUNDS, "quorum": 1.0},
    "privacy": {"mode": "dp-sgd", "epsilon_per_run": 4.0, "epsilon_limit": 8.0},
}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A coordinator after a run of four devices that kept their ledgers."""
    small, directory = Small(tmp_path_factory.mktemp("small"), SECTIONS), tmp_path_factory.mktemp("coordinator")
    small.run(17)
    places = small.places("coordinator")
    shutil.copy(places.host, directory / "host.json")
    shutil.copy(places.journal, directory / "journal.db")
    shutil.copytree(places.models, directory / "models")
    service = Service(directory)
    service.start()
    yield service
    service.end(kill=True)


@pytest.fixture
def taking() -> Iterator[Collector]:
    with collecting() as taking:
        yield taking


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def client(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """MLflow's own client, by which what was told is read."""
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    from mlflow.tracking import MlflowClient

    return MlflowClient(mlflow)


def asks(site: Path, **observability: Json) -> tuple[str, ...]:
    """Write into site.yaml whom to tell; the arguments that name the site."""
    text = (site / "site.yaml").read_text().partition("observability:")[0]
    (site / "site.yaml").write_text(f"{text}observability: {json.dumps(observability)}\n")
    return ("--site", str(site))


def export(*words: str) -> int:
    """The command; its exit code."""
    return edgefl(["export", *words])


def said(capsys: pytest.CaptureFixture[str]) -> list[Json]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def downloaded(client: MlflowClient, run: Run, name: str, into: Path) -> bytes:
    """One of a run's artifacts, as MLflow's own client brings it."""
    return Path(client.download_artifacts(run.info.run_id, name, into)).read_bytes()


def in_mlflow(client: MlflowClient, experiment: str, run: str) -> Run:
    """The only run there that is ours of this number."""
    (found,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], f"tags.`edgefl.run` = '{run}'")
    return found


def over(journal: Journal) -> list[tuple[str, int]]:
    """Every round that has ended."""
    return [(event.run, event.round) for event in journal.events() if isinstance(event.body, s.RoundFinished | s.RoundSkipped)]


def traced(taking: Collector) -> list[tuple[str, int]]:
    """Every round that the collector has."""
    roots = [one.attributes for one in taking.spans if one.span.name == "round"]
    return [(one["edgefl.run"], one["edgefl.round"]) for one in roots]


def test_rounds_are_told_once_and_what_happens_later_the_next_time(
    site: Path, journal: Journal, taking: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    at, before = asks(site, traces={"endpoint": taking.address}), over(journal)
    assert export("traces", *at, "--json") == ExitCode.OK
    *steps, result = said(capsys)
    assert result["exported"] == len(before) >= ROUNDS
    assert [step["subject"] for step in steps if step["type"] == "step"][:2] == ["round 1", "round 2"]
    assert traced(taking) == before
    assert {one.instance for one in taking.spans} >= {"coordinator", *DEVICES}

    assert export("traces", *at, "--json") == ExitCode.OK
    assert said(capsys)[-1]["exported"] == 0, "the second time changes nothing"

    taking.answers = [400]
    journal.append(started(), run="18")
    for round_ in (1, 2):
        journal.append(s.RoundStarted(devices=DEVICES, deadline_s=20), run="18", round=round_)
        journal.append_all([body for _, body in updates()] + [finished()], run="18", round=round_)
    journal.append(s.RunFinished(status="completed"), run="18")
    assert export("traces", *at) == ExitCode.EXPORT_FAILED
    assert "400 Bad Request: not now" in capsys.readouterr().err
    assert export("traces", *at, "--json") == ExitCode.OK
    assert said(capsys)[-1]["exported"] == 2, "what it refused is told when it takes it"
    assert traced(taking) == [*before, ("18", 1), ("18", 2)]


def test_another_collector_is_told_all_of_it(site: Path, taking: Collector) -> None:
    assert export("traces", *asks(site, traces={"endpoint": taking.address})) == ExitCode.OK
    with collecting() as other:
        assert export("traces", *asks(site, traces={"endpoint": other.address})) == ExitCode.OK
        assert other.spans == taking.spans


def test_a_followed_journal_is_told_as_it_grows(site: Path, journal: Journal, taking: Collector) -> None:
    at, before = asks(site, traces={"endpoint": taking.address}), over(journal)
    program = "import sys; from edgefl.cli.main import main; main(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", program, "export", "traces", "--follow", *at], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: traced(taking) == before, "what happened before")
        journal.append(started(), run="19")
        journal.append(s.RoundStarted(devices=DEVICES, deadline_s=20), run="19", round=1)
        journal.append(finished(), run="19", round=1)
        wait_for(lambda: traced(taking) == [*before, ("19", 1)], "the round that ended meanwhile")
        assert export("traces", *at) == ExitCode.LOCKED
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == ExitCode.CANCELLED


def test_what_cannot_be_told_says_why(site: Path, taking: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, hint in (("traces", "traces: {endpoint:"), ("mlflow", "mlflow: {server:")):
        assert export(kind, *asks(site)) == ExitCode.USAGE
        assert hint in capsys.readouterr().err
    at = asks(site, traces={"endpoint": taking.address})
    bookmark = site / ".edgefl" / "journal" / "exports" / "traces.json"
    assert export("traces", *at) == ExitCode.OK
    bookmark.write_text("{}")
    assert export("traces", *at) == ExitCode.FAILED
    assert f"rm {bookmark}" in capsys.readouterr().err
    bookmark.unlink()
    assert export("traces", *asks(site, traces={"endpoint": f"{taking.address}/elsewhere"})) == ExitCode.EXPORT_FAILED
    assert "404" in capsys.readouterr().err
    nobody = f"http://{free()}/v1/traces"
    assert export("traces", *asks(site, traces={"endpoint": nobody})) == ExitCode.EXPORT_FAILED
    assert f"{nobody} does not answer" in capsys.readouterr().err


def test_a_run_in_mlflow_has_its_rounds_and_parameters(site: Path, service: Service, mlflow: str, client: MlflowClient) -> None:
    assert export("mlflow", *asks(site, mlflow={"server": mlflow, "experiment": "rounds"})) == ExitCode.OK
    run, models = in_mlflow(client, "rounds", "17"), Models(service.models)
    assert (run.info.status, run.info.run_name, run.data.tags["edgefl.site"]) == ("FINISHED", "clinic 17", "clinic")
    assert {name: run.data.params[name] for name in ("rule", "privacy.mode", "devices")} == {
        "rule": "guard", "privacy.mode": "dp-sgd", "devices": " ".join(DEVICES),
    }  # fmt: skip
    told = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "accuracy")]
    assert told == [(number, pytest.approx(models.find(f"17/{number}").metrics["accuracy"])) for number in (1, 2)]
    assert run.data.metrics["participants"] == len(DEVICES)
    assert run.data.metrics["epsilon.most"] == max(run.data.metrics[f"{device}/epsilon"] for device in DEVICES) > 0


def test_a_run_in_mlflow_has_its_model_and_what_it_cost(
    site: Path, service: Service, mlflow: str, client: MlflowClient, tmp_path: Path
) -> None:
    assert export("mlflow", *asks(site, mlflow={"server": mlflow, "experiment": "models"})) == ExitCode.OK
    run = in_mlflow(client, "models", "17")
    model = downloaded(client, run, "model/clinic-17-2.safetensors", tmp_path)
    sha256 = Models(service.models).find("17/2").sha256
    assert hashlib.sha256(model).hexdigest() == sha256 == run.data.tags["edgefl.model.sha256"]
    assert json.loads(downloaded(client, run, "model/clinic-17-2.json", tmp_path))["lineage"]["participants"] == DEVICES
    record = json.loads(downloaded(client, run, "record.json", tmp_path))
    with Journal(service.journal) as journal:
        ended = next(event for event in journal.events(run="17") if isinstance(event.body, s.RunFinished))
        taken = [event.body.subject for event in journal.events() if isinstance(event.body, s.OperatorAction)]
    assert record["journal"] == {"seq": ended.seq, "hash": ended.hash}
    assert list(record["privacy"]["devices"]) == DEVICES
    assert all(0 < one["spent"] <= 4.0 for one in record["privacy"]["devices"].values())
    assert "17/2" in taken, "a model that leaves the coordinator stands in the audit log"
    assert list((site / ".edgefl").glob("export-*")) == [], "nothing of the model is left here"


def test_what_is_told_twice_is_in_mlflow_once(
    site: Path, mlflow: str, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    at = asks(site, mlflow={"server": mlflow, "experiment": "twice"})
    assert export("mlflow", *at) == ExitCode.OK
    first = in_mlflow(client, "twice", "17")
    capsys.readouterr()
    assert export("mlflow", *at, "--json") == ExitCode.OK
    assert said(capsys)[-1]["exported"] == 0
    (site / ".edgefl" / "journal" / "exports" / "mlflow.json").unlink()  # as after a death before it was written
    assert export("mlflow", *at, "--json") == ExitCode.OK
    assert said(capsys)[-1]["exported"] > 0
    again = in_mlflow(client, "twice", "17")
    assert again.info.run_id == first.info.run_id
    assert again.data.to_dictionary() == first.data.to_dictionary()
    assert {len(client.get_metric_history(again.info.run_id, name)) for name in again.data.metrics} == {ROUNDS}


def test_a_run_that_goes_on_and_fails_is_told_so(
    site: Path, journal: Journal, mlflow: str, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    at = asks(site, mlflow={"server": mlflow, "experiment": "fails"})
    journal.append(started(), run="20")
    journal.append(s.RoundStarted(devices=DEVICES, deadline_s=20), run="20", round=1)
    journal.append_all([body for _, body in updates()] + [finished()], run="20", round=1)
    assert export("mlflow", *at) == ExitCode.OK
    going = in_mlflow(client, "fails", "20")
    assert going.info.status == "RUNNING"
    capsys.readouterr()
    assert export("mlflow", *at, "--json") == ExitCode.OK
    assert said(capsys)[-1]["exported"] == 0, "what was told of a run that goes on is not told again"
    assert (going.data.metrics["flagged"], going.data.metrics["edge-02/score"]) == (1, 9.0)
    journal.append(s.RunFinished(status="failed", reason="too few"), run="20")
    assert export("mlflow", *at) == ExitCode.OK
    ended = in_mlflow(client, "fails", "20")
    assert (ended.info.run_id, ended.info.status) == (going.info.run_id, "FAILED")
    assert [one.step for one in client.get_metric_history(ended.info.run_id, "accuracy")] == [1]
    (flag,) = json.loads(downloaded(client, ended, "record.json", site))["robustness"]["flags"]
    assert (flag["device"], flag["score"], flag["reason"]) == ("edge-02", 9.0, "far off")
