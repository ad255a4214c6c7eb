"""The coordinator's models over the API: a real training's versions and journal, asked as an operator asks."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load

from edgefl.cli.main import run as edgefl
from edgefl.errors import ExitCode
from edgefl.events.journal import Journal
from edgefl.events.schema import ModelPrivacySpent, OperatorAction, RunFinished, RunStarted, StartChosen
from edgefl.federation.checkpoint import Models
from edgefl.federation.comparison import compare
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.monitor.app import Monitor, build
from edgefl.monitor.service import assemble
from tests.federation.small import DEVICES, Died, Small
from tests.monitor.conftest import Service
from tests.monitor.test_app import SmallFleet

pytestmark = pytest.mark.slow

OPERATOR = {"X-Edgefl-Name": "alice@desk", "X-Edgefl-Role": "operator"}
ROUNDS = 3


class Fleet(SmallFleet):
    """The training's devices, all there."""

    def nodes(self) -> list[Any]:
        return [type("Node", (), {"name": name, "state": "online"})() for name in DEVICES]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: one of three rounds, and one that died in its second."""
    small = Small(tmp_path_factory.mktemp("trained"), {"run": {"rounds": ROUNDS, "quorum": 1.0}, "privacy": {"mode": "none"}})
    small.run(17)
    with pytest.raises(Died):
        small.run(25, dies_after=2 * len(DEVICES) + 1)
    with Journal(small.places("coordinator").journal) as journal:
        journal.append(RunFinished(status="failed", reason="killed"), run="25")
    return small.root / "coordinator"


@pytest.fixture
def places(trained: Path, tmp_path: Path) -> Places:
    """A coordinator of one's own after these runs."""
    shutil.copytree(trained, tmp_path / "coordinator")
    return Places(tmp_path / "coordinator" / "etc", tmp_path / "coordinator" / "var")


@pytest.fixture
def models(places: Places) -> Models:
    return Models(places.models)


@pytest.fixture
def journal(places: Places) -> Iterator[Journal]:
    with Journal(places.journal) as journal:
        yield journal


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def monitor(places: Places, journal: Journal, fleet: Fleet) -> Monitor:
    return assemble(HostConfig.load(places.host), journal, fleet, places.config / "app.fab", places.models)


@pytest.fixture
async def api(monitor: Monitor) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build(monitor), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://monitor", headers=OPERATOR) as api:
        yield api


async def test_nobody_but_an_operator_reaches_the_models(monitor: Monitor) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build(monitor)), base_url="http://monitor") as api:
        for role in ("device", "scraper"):
            headers = {"X-Edgefl-Name": "p", "X-Edgefl-Role": role}
            for path in ("", "/card", "/compare?a=17", "/file"):
                assert (await api.get(f"/v1/models{path}", headers=headers)).status_code == 403
            for path in ("/export", "/start"):
                assert (await api.post(f"/v1/models{path}", json={"model": "17/2"}, headers=headers)).status_code == 403


async def test_every_version_is_listed_with_what_is_special_about_it(api: httpx.AsyncClient) -> None:
    said = (await api.get("/v1/models")).json()
    assert [one["name"] for one in said["models"]] == ["17/0", "17/1", "17/2", "17/3", "25/0", "25/1"]
    marks = {one["name"]: one["marks"] for one in said["models"]}
    assert marks["25/1"][0] == "last"
    assert sum("best" in found for found in marks.values()) == 1
    assert said["start"] == ""


@pytest.mark.parametrize(
    ("said", "means"),
    [("17/2", "17/2"), ("17", "17/3"), ("last", "25/1"), ("1/0", "17/0"), ("2", "25/1"), ("25/1", "25/1")],
)
async def test_a_version_may_be_named_briefly(api: httpx.AsyncClient, said: str, means: str) -> None:
    card = (await api.get("/v1/models/card", params={"model": said})).json()
    assert card["name"] == means


@pytest.mark.parametrize(
    ("said", "nearest"),
    [
        ("17/9", "17/3"),
        ("27/1", "25/1"),
        ("17/x", "17/3"),
        ("../etc/passwd", "the nearest is"),
        ("bes", "the nearest is"),
        ("", ""),
    ],
)
async def test_an_unknown_version_is_refused_with_the_nearest(api: httpx.AsyncClient, said: str, nearest: str) -> None:
    for answer in (
        await api.get("/v1/models/card", params={"model": said}),
        await api.get("/v1/models/file", params={"model": said}),
        await api.post("/v1/models/export", json={"model": said}),
        *([await api.post("/v1/models/start", json={"model": said})] if said else []),
    ):
        assert answer.status_code == 404
        assert answer.json()["exit_code"] == ExitCode.USAGE
        assert nearest in answer.json()["next"]


async def test_a_card_says_where_a_model_comes_from_and_the_journal_agrees(
    api: httpx.AsyncClient, models: Models, journal: Journal
) -> None:
    card = (await api.get("/v1/models/card", params={"model": "17/2"})).json()
    lineage = card["lineage"]
    assert (lineage["parent"], lineage["parent_sha256"]) == ("17/1", models.find("17/1").sha256)
    assert lineage["participants"] == DEVICES
    assert (lineage["site_hash"], lineage["plan"]["rounds"]) == ("5" * 64, ROUNDS)
    heads = {event.seq: event.hash for event in journal.events()}
    assert lineage["journal"] == {"seq": lineage["journal"]["seq"], "hash": heads[lineage["journal"]["seq"]], "agrees": True}
    assert card["privacy"] == {"spent": None, "devices": {}, "models": None}
    terms = {"limit": 8, "delta": 1e-5, "sigma": 3.4, "clip": 1.0, "next_clip": 1.0}
    spent = ModelPrivacySpent(spent=1.5, run_spent=1.5, rounds_left=9, **terms)
    forged = models.find("17/2").model_copy(update={"sha256": "0" * 64, "released": spent})
    models.commit(forged)
    card = (await api.get("/v1/models/card", params={"model": "17/2"})).json()
    assert card["lineage"]["journal"]["agrees"] is False, "the journal has another model for this round"
    assert (card["privacy"]["spent"], card["privacy"]["models"]["limit"]) == (1.5, 8), "the coordinator's own ledger"


async def test_two_versions_side_by_side(api: httpx.AsyncClient, models: Models) -> None:
    said = (await api.get("/v1/models/compare", params={"a": "17/1", "b": "17/3"})).json()
    assert said["relation"] == {"ancestor": "17/1", "rounds_a": 0, "rounds_b": 2}
    assert said["metrics"]["accuracy"]["change"] == pytest.approx(
        models.find("17/3").metrics["accuracy"] - models.find("17/1").metrics["accuracy"]
    )
    one, other = models.arrays(models.find("17/1")), models.arrays(models.find("17/3"))
    layers = {layer["name"]: layer for layer in said["layers"]}
    assert layers["weight"]["distance"] == pytest.approx(np.linalg.norm(other["weight"] - one["weight"]))
    assert (said["only_a"], said["only_b"]) == ([], [])
    apart = (await api.get("/v1/models/compare", params={"a": "17/3", "b": "25/1"})).json()
    assert apart["relation"]["ancestor"] == "", "two trainings that began by themselves"


@given(
    arrays(np.float32, (3, 2), elements=st.floats(-100, 100, width=32)),
    arrays(np.float32, (3, 2), elements=st.floats(-100, 100, width=32)),
)
def test_distances_and_angles_are_numpys(a: np.ndarray, b: np.ndarray) -> None:
    found = compare({"w": a, "v": a[:1], "x": a}, {"w": b, "v": b[:1], "x": b[0], "y": b})
    assert ([layer.name for layer in found.layers], found.only_a, found.only_b) == (["v", "w"], ["x"], ["x", "y"])
    x, y = (np.concatenate([one[:1].reshape(-1), one.reshape(-1)]).astype(np.float64) for one in (a, b))
    assert found.whole.distance == pytest.approx(np.linalg.norm(x - y), rel=1e-6, abs=1e-9)
    if np.linalg.norm(x) and np.linalg.norm(y):
        assert found.whole.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-9)
    else:
        assert found.whole.cosine is None


async def test_an_exported_version_is_the_file_that_was_saved_and_the_journal_has_who_took_it(
    api: httpx.AsyncClient, models: Models, journal: Journal
) -> None:
    for _ in range(2):
        card = (await api.post("/v1/models/export", json={"model": "17/2"})).json()
    assert "exported" in card["marks"]
    content = (await api.get("/v1/models/file", params={"model": card["name"]})).content
    assert content == models.path("17", 2).read_bytes()
    assert load(content).keys() == {"weight", "bias"}
    took = [event.body for event in journal.events() if isinstance(event.body, OperatorAction)]
    assert [(one.who, one.action, one.subject) for one in took] == [("alice@desk", "export", "17/2")], "once is enough"


async def test_the_next_run_starts_from_what_was_chosen_and_only_that_one(
    api: httpx.AsyncClient, fleet: Fleet, journal: Journal, models: Models
) -> None:
    answer = await api.post("/v1/models/start", json={"model": "17/2", "why": "3 is odd"})
    assert answer.json() == {"start": "17/2", "before": "", "changed": True}
    assert (await api.post("/v1/models/start", json={"model": "17/2"})).json()["changed"] is False
    assert (await api.post("/v1/models/start", json={"model": ""})).json() == {"start": "", "before": "17/2", "changed": True}
    assert (await api.post("/v1/models/start", json={"model": "17/2"})).json()["changed"] is True
    chosen = [event.body for event in journal.events() if isinstance(event.body, StartChosen)]
    assert [(one.who, one.model, one.why) for one in chosen] == [
        ("alice@desk", "17/2", "3 is odd"), ("alice@desk", "", ""), ("alice@desk", "17/2", "")
    ]  # fmt: skip
    assert chosen[0].sha256 == models.find("17/2").sha256
    assert (await api.post("/v1/runs", json={})).status_code == 201
    assert json.loads(fleet.configs[0]["options"]) == {"start": "17/2"}
    started = {"site": "small", "site_hash": "", "task": "t", "rounds": 3, "devices": DEVICES, "quorum": 4, "rule": "guard"}
    journal.append(RunStarted(**started, start="17/2", start_sha256=chosen[0].sha256), run="1")
    fleet.listed.clear()
    await api.post("/v1/runs", json={})
    assert fleet.configs[1] == {}, "the run after it is the site's own again"


async def test_a_damaged_model_is_neither_exported_nor_started_from(api: httpx.AsyncClient, models: Models) -> None:
    path = models.path("17", 2)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    for answer in (
        await api.post("/v1/models/export", json={"model": "17/2"}),
        await api.post("/v1/models/start", json={"model": "17/2"}),
        await api.get("/v1/models/file", params={"model": "17/2"}),
        await api.get("/v1/models/compare", params={"a": "17/2"}),
    ):
        assert answer.status_code == 503
        assert "its hash differs" in answer.json()["what"]
        assert answer.json()["exit_code"] == ExitCode.RUN_FAILED
    assert (await api.get("/v1/models")).json()["start"] == ""


@pytest.mark.parametrize(("said", "training"), [("last", "25"), ("25", "25"), ("2", "25")])
async def test_a_run_that_died_is_resumed_as_it_was_planned(
    api: httpx.AsyncClient, fleet: Fleet, said: str, training: str
) -> None:
    answer = await api.post("/v1/runs", json={"overrides": {"resume": said}})
    assert answer.status_code == 201, answer.json()
    assert json.loads(fleet.configs[0]["options"]) == {"resume": training}
    assert "rounds" not in fleet.configs[0], "the ServerApp knows how many were planned"


async def test_what_cannot_be_resumed_is_refused_before_flower_hears_of_it(api: httpx.AsyncClient, fleet: Fleet) -> None:
    done = await api.post("/v1/runs", json={"overrides": {"resume": "17"}})
    assert (done.status_code, done.json()["exit_code"]) == (409, ExitCode.USAGE)
    assert "--rounds 4" in done.json()["next"]
    unknown = await api.post("/v1/runs", json={"overrides": {"resume": "26"}})
    assert (unknown.status_code, unknown.json()["next"]) == (404, "the nearest is 25")
    assert fleet.configs == []
    further = await api.post("/v1/runs", json={"overrides": {"resume": "17", "rounds": 5}})
    assert further.status_code == 201
    assert json.loads(fleet.configs[0]["options"]) == {"resume": "17"}


async def test_a_round_that_no_model_is_left_of_is_not_done_again(
    api: httpx.AsyncClient, models: Models, fleet: Fleet, journal: Journal
) -> None:
    models.path("25", 1, ".json").unlink()
    answer = await api.post("/v1/runs", json={"overrides": {"resume": "25"}})
    assert (answer.status_code, answer.json()["exit_code"]) == (503, ExitCode.RUN_FAILED)
    assert "finished round 1, and of its models 25/0 is the newest" in answer.json()["what"]
    assert fleet.configs == []


async def test_a_run_starts_from_no_version_that_is_gone(api: httpx.AsyncClient, models: Models, fleet: Fleet) -> None:
    await api.post("/v1/models/start", json={"model": "17/2"})
    models.remove(models.find("17/2"))
    answer = await api.post("/v1/runs", json={})
    assert (answer.status_code, answer.json()["exit_code"]) == (404, ExitCode.USAGE)
    assert "edgefl models rollback --undo" in answer.json()["next"]
    assert fleet.configs == []
    assert (await api.post("/v1/runs", json={"overrides": {"start": "17"}})).status_code == 201
    assert json.loads(fleet.configs[0]["options"]) == {"start": "17/3"}, "a version may be named briefly here too"


@pytest.fixture
def provisioned(site: Path, service: Service, trained: Path) -> Path:
    """A site whose coordinator, the real service behind the real gate, has these models."""
    shutil.copytree(trained / "var" / "models", service.models, dirs_exist_ok=True)
    return site


async def command(*words: str) -> int:
    """The command in a thread, since it brings its own event loop."""
    return await asyncio.to_thread(edgefl, ["models", *words])


async def test_models_as_a_user_types_them(
    provisioned: Path, service: Service, models: Models, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    at = ("--site", str(provisioned))
    assert await command("list", *at) == ExitCode.OK
    assert "17/3" in capsys.readouterr().out
    assert await command("show", "17/2", *at) == ExitCode.OK
    assert "✖ does not agree" in capsys.readouterr().out, "this coordinator's journal knows nothing of that run"
    assert await command("compare", "17/1", "17/3", *at) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "both from 17/1, 0 and 2 rounds ago" in shown
    assert "all of it" in shown
    assert await command("show", "17/9", *at) == ExitCode.USAGE
    assert "the nearest is 17/3" in capsys.readouterr().err

    out = tmp_path / "dist"
    for changed in (True, False):
        assert await command("export", "17/2", "--out", str(out), *at, "--json") == ExitCode.OK
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert next(line for line in lines if line.get("type") == "finished")["changed"] is changed
    assert (out / "clinic-17-2.safetensors").read_bytes() == models.path("17", 2).read_bytes()
    card = json.loads((out / "clinic-17-2.json").read_text())
    assert (card["name"], card["sha256"], card["file"]) == ("17/2", models.find("17/2").sha256, "clinic-17-2.safetensors")
    assert card["lineage"]["participants"] == DEVICES
    assert sorted(path.name for path in out.iterdir()) == ["clinic-17-2.json", "clinic-17-2.safetensors"]

    assert await command("rollback", "17/1", "--why", "2 was poisoned", *at) == ExitCode.OK
    assert "the next run starts from 17/1" in capsys.readouterr().out
    assert await command("rollback", "--undo", *at, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["before"] == "17/1"
    with Journal(service.journal) as journal:
        chosen = [event.body for event in journal.events() if isinstance(event.body, StartChosen)]
    assert [(one.model, one.why) for one in chosen[-2:]] == [("17/1", "2 was poisoned"), ("", "")]
    assert chosen[-1].who


async def test_an_export_that_has_nowhere_to_go_says_so(
    provisioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert (
        await command("export", "17/2", "--out", str(tmp_path / "file" / "dist"), "--site", str(provisioned)) == ExitCode.FAILED
    )
    assert "--out names another directory" in capsys.readouterr().err
    (tmp_path / "clinic-17-2.safetensors").mkdir()
    assert await command("export", "17/2", "--out", str(tmp_path), "--site", str(provisioned)) == ExitCode.FAILED
    assert "clinic-17-2.safetensors is in the way" in capsys.readouterr().err


async def test_no_name_is_not_the_choice_to_take_back(
    provisioned: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--site", str(provisioned))
    assert await command("rollback", "17/1", *at) == ExitCode.OK
    assert await command("rollback", "", *at) == ExitCode.USAGE
    assert "--undo" in capsys.readouterr().err
    with Journal(service.journal) as journal:
        assert [event.body.model for event in journal.events() if isinstance(event.body, StartChosen)][-1] == "17/1"
