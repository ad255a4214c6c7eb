"""The API over a real journal; Flower's part is a small fleet in memory: what is tested is what the monitor does with it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from edgefl.errors import ExitCode
from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceDropped, DeviceJudged, DeviceState, OperatorAction, RunFinished, RunStarted
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.server import was_stopped
from edgefl.monitor.app import build
from edgefl.monitor.health import concerns
from edgefl.monitor.service import assemble
from tests.monitor.small_fleet import DEVICES, FlowerRun, SmallFleet

OPERATOR = {"X-Edgefl-Name": "alice@desk", "X-Edgefl-Role": "operator"}


@pytest.fixture
def fleet():
    return SmallFleet()


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db") as journal:
        yield journal


@pytest.fixture
def monitor(journal, fleet, tmp_path):
    said = {"site": "clinic", "name": "coordinator", "role": "coordinator", "devices": DEVICES}
    host = HostConfig.model_validate({**said, "coordinator": {"name": "coordinator", "address": "10.77.0.10"}})
    return assemble(host, journal, fleet, tmp_path / "app.fab", tmp_path / "models")


@pytest.fixture
async def api(monitor):
    transport = httpx.ASGITransport(build(monitor), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://monitor", headers=OPERATOR) as api:
        yield api


@pytest.mark.parametrize(
    ("headers", "path", "code"),
    [
        ({}, "/v1/status", 401),
        ({"X-Edgefl-Name": "alice@desk"}, "/v1/status", 401),
        ({"X-Edgefl-Role": "operator"}, "/v1/status", 401),
        ({"X-Edgefl-Name": "", "X-Edgefl-Role": "operator"}, "/v1/status", 401),
        ([*OPERATOR.items(), ("X-Edgefl-Role", "operator")], "/v1/status", 401),
        ({"X-Edgefl-Name": "edge-01", "X-Edgefl-Role": "device"}, "/v1/status", 403),
        ({"X-Edgefl-Name": "edge-01", "X-Edgefl-Role": "device"}, "/metrics", 403),
        ({"X-Edgefl-Name": "p", "X-Edgefl-Role": "Operator"}, "/v1/status", 403),
        ({"X-Edgefl-Name": "p", "X-Edgefl-Role": "scraper"}, "/v1/status", 403),
        ({"X-Edgefl-Name": "p", "X-Edgefl-Role": "scraper"}, "/metrics/", 403),
        ({"X-Edgefl-Name": "p", "X-Edgefl-Role": "scraper"}, "/metrics", 200),
        (OPERATOR, "/metrics", 200),
        (OPERATOR, "/v1/status", 200),
        (OPERATOR, "/openapi.json", 200),
        (OPERATOR, "/v1/nothing", 404),
    ],
)
async def test_the_role_decides_what_opens(monitor, headers, path, code):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build(monitor)), base_url="http://monitor") as api:
        answer = await api.get(path, headers=headers)
    assert answer.status_code == code
    if code >= 400:
        assert answer.json()["what"]


async def test_nothing_is_written_without_the_operators_role(monitor, journal):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build(monitor)), base_url="http://monitor") as api:
        for headers in ({}, {"X-Edgefl-Name": "p", "X-Edgefl-Role": "scraper"}):
            for path in ("/v1/runs", "/v1/runs/1/stop", "/v1/actions"):
                assert (await api.post(path, json={}, headers=headers)).status_code in {401, 403}
    assert journal.head().seq == 0


async def test_a_run_is_started_with_what_was_overridden_and_recorded(api, journal, fleet):
    answer = await api.post("/v1/runs", json={"overrides": {"rounds": 3, "deadline_s": 20, "parameters": {"batch_size": 8}}})
    assert (answer.status_code, answer.json()) == (201, {"run": "1"})
    assert fleet.configs == [{"rounds": 3, "deadline-s": 20.0, "options": '{"parameters": {"batch_size": 8}}'}]
    event = list(journal.events())[-1]
    assert event.run == "1"
    assert isinstance(event.body, OperatorAction)
    assert (event.body.who, event.body.action, event.body.detail["rounds"]) == ("alice@desk", "run", 3)


async def test_without_overrides_the_run_is_the_sites(api, fleet):
    assert (await api.post("/v1/runs")).status_code == 201
    assert fleet.configs == [{}]


async def test_a_second_run_is_refused_while_one_is_going(api, fleet):
    await api.post("/v1/runs", json={})
    answer = await api.post("/v1/runs", json={})
    assert answer.status_code == 409
    assert answer.json()["error"] == "RunActive"
    assert len(fleet.listed) == 1


async def test_a_run_that_is_over_and_being_put_away_is_waited_for(api, fleet, journal):
    run = (await api.post("/v1/runs", json={})).json()["run"]
    journal.append(RunFinished(status="completed"), run=run)
    second = asyncio.create_task(api.post("/v1/runs", json={}))
    done, _ = await asyncio.wait([second], timeout=0.5)
    assert not done, "Flower still has the first"
    fleet.listed[0].state = "finished"
    assert (await second).status_code == 201


async def test_two_requests_at_once_start_one_run(api, fleet):
    answers = await asyncio.gather(*(api.post("/v1/runs", json={}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert len(fleet.listed) == 1


async def test_a_run_below_the_quorum_is_refused_and_names_who_is_missing(api, fleet, journal):
    fleet.online = {"edge-01"}
    answer = await api.post("/v1/runs", json={})
    assert answer.status_code == 409
    assert answer.json()["exit_code"] == ExitCode.QUORUM
    assert answer.json()["what"].endswith("missing edge-02, edge-03, edge-04")
    assert fleet.listed == []
    assert journal.head().seq == 0


async def test_a_quarantined_device_does_not_count_for_the_quorum(api, fleet, journal):
    fleet.online = {"edge-01", "edge-02", "edge-03"}
    assert (await api.post("/v1/runs", json={})).status_code == 201
    fleet.listed.clear()
    journal.append(DeviceState(device="edge-01", state="quarantined"))
    assert (await api.post("/v1/runs", json={})).status_code == 409


async def test_whom_the_policy_set_aside_does_not_count_either_unless_pardoned(api, fleet, journal):
    fleet.online = {"edge-01", "edge-02", "edge-03"}
    journal.append(
        DeviceJudged(device="edge-01", before="suspect", conduct="quarantined", reason="flagged", rounds_out=20), run="1"
    )
    answer = await api.post("/v1/runs", json={})
    assert (answer.status_code, answer.json()["exit_code"]) == (409, ExitCode.QUORUM)
    assert answer.json()["what"].endswith("missing edge-01, edge-04")
    assert "edgefl run --pardon edge-01" in answer.json()["next"]
    assert (await api.post("/v1/runs", json={"overrides": {"pardon": ["edge-01"]}})).status_code == 201


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        ({"rounds": 0}, "rounds"),
        ({"rounds": "many"}, "rounds"),
        ({"epochs": 3}, "epochs"),
        ({"devices": ["edge-99"]}, "edge-99"),
        ({"byzantine": "lots"}, "options"),
    ],
)
async def test_a_run_that_makes_no_sense_is_refused_before_flower_hears_of_it(api, fleet, overrides, what):
    answer = await api.post("/v1/runs", json={"overrides": overrides})
    assert answer.status_code == 400
    assert what in answer.json()["what"]
    assert fleet.listed == []


async def test_a_run_is_stopped_once(api, journal):
    await api.post("/v1/runs", json={})
    assert (await api.post("/v1/runs/1/stop", json={"why": "lunch"})).json() == {"run": "1", "stopped": True}
    assert (await api.post("/v1/runs/1/stop", json={})).json() == {"run": "1", "stopped": False}
    said = [event.body for event in journal.events() if isinstance(event.body, OperatorAction)]
    assert [(one.action, one.why) for one in said] == [("run", ""), ("stop", "lunch")]


async def test_the_operators_wish_is_in_the_journal_before_the_serverapp_is_turned_away(api, journal, fleet, monkeypatch):
    await api.post("/v1/runs", json={})
    there: list[bool] = []

    def obey(run: int) -> bool:
        there.append(was_stopped(journal, str(run)))
        return SmallFleet.stop_run(fleet, run)

    monkeypatch.setattr(fleet, "stop_run", obey)
    assert (await api.post("/v1/runs/1/stop", json={"why": "lunch"})).json() == {"run": "1", "stopped": True}
    assert there == [True]


async def test_stopping_what_is_no_run_says_so(api):
    assert (await api.post("/v1/runs/x/stop", json={})).status_code == 400
    answer = await api.post("/v1/runs/9/stop", json={})
    assert answer.status_code == 503
    assert answer.json()["what"] == "the SuperLink knows no run 9"


@pytest.mark.parametrize(
    "said", [[], {}, {"type": "nothing"}, {"type": "operator_action"}, [1], "x", [{"type": "run_finished"}] * 2]
)
async def test_what_is_no_operators_event_is_not_written(api, journal, said):
    assert (await api.post("/v1/actions", json=said)).status_code == 400
    assert journal.head().seq == 0


async def test_devices_that_come_and_go_are_written_once(monitor, journal, fleet):
    fleet.online = {"edge-01", "edge-02"}
    await monitor.presence.look()
    await monitor.presence.look()
    fleet.online = {"edge-02"}
    await monitor.presence.look()
    said = [(event.body.device, event.body.state) for event in journal.events()]
    assert said == [("edge-01", "online"), ("edge-02", "online"), ("edge-01", "offline")]
    await monitor.tail.catch_up()
    states = {name: row.state for name, row in monitor.status().state.devices.items()}
    assert states == {"edge-01": "offline", "edge-02": "online", "edge-03": "enrolled", "edge-04": "enrolled"}


async def test_an_online_device_was_seen_now_although_nothing_is_written(monitor, journal, fleet):
    await monitor.presence.look()
    await monitor.tail.catch_up()
    first = monitor.status().state.devices["edge-01"].seen
    await monitor.presence.look()
    assert monitor.status().state.devices["edge-01"].seen > first
    assert journal.head().seq == 4


async def test_a_superlink_that_is_away_shows_and_takes_nobody_offline(monitor, journal, fleet):
    await monitor.presence.look()
    fleet.away = True
    following = asyncio.create_task(monitor.presence.follow())
    async with asyncio.timeout(60):
        while monitor.status().superlink == "not asked yet":  # noqa: ASYNC110  # a thread says so
            await asyncio.sleep(0.01)
    following.cancel()
    await monitor.tail.catch_up()
    assert monitor.status().superlink.startswith("the SuperLink could not")
    assert all(row.connected for row in monitor.status().state.devices.values())


async def test_a_run_whose_serverapp_died_is_ended_by_the_monitor(monitor, journal, fleet):
    started = RunStarted(site="clinic", site_hash="", task="t", rounds=3, devices=DEVICES, quorum=3, rule="guard")
    journal.append(started, run="1")
    fleet.listed.append(FlowerRun("1", "finished", "failed", "the ServerApp was killed"))
    await monitor.presence.look()
    assert not any(isinstance(event.body, RunFinished) for event in journal.events()), "its own word may be on its way"
    await monitor.presence.look()
    await monitor.presence.look()
    await monitor.tail.catch_up()
    ends = [event for event in journal.events() if isinstance(event.body, RunFinished)]
    assert [(event.run, event.body.status, event.body.reason) for event in ends] == [("1", "failed", "the ServerApp was killed")]
    assert monitor.tail.state.run.status == "failed"


async def test_a_run_that_the_superlink_lost_with_its_database_is_over(monitor, journal, fleet):
    started = RunStarted(site="clinic", site_hash="", task="t", rounds=3, devices=DEVICES, quorum=3, rule="guard")
    journal.append(started, run="7")
    fleet.listed.append(FlowerRun("6", "finished", "completed"))
    for _ in range(3):
        await monitor.presence.look()
    await monitor.tail.catch_up()
    ends = [event.body for event in journal.events(run="7") if isinstance(event.body, RunFinished)]
    assert [(end.status, end.reason) for end in ends] == [("failed", "the SuperLink does not know it any more")]
    assert monitor.tail.state.run.status == "failed", "nobody follows it for ever"


@pytest.mark.slow
async def test_a_slow_reader_holds_one_page_and_nobody_up(monitor, journal):
    journal.append_all([DeviceDropped(device="edge-01", reason="deadline")] * 2000)
    await monitor.tail.catch_up()
    slow = monitor.streams.lines(0, follow=True)
    assert "heartbeat" in json.loads(await anext(slow))
    first = await anext(slow)
    assert first.count(b"\n") == 500
    journal.append(DeviceDropped(device="edge-02", reason="deadline"))
    await monitor.tail.catch_up()
    quick = [part async for part in monitor.streams.lines(0, follow=False)]
    assert sum(part.count(b"\n") for part in quick) == 2002
    await slow.aclose()


async def test_streams_end_at_once_when_the_service_does(monitor):
    stream = monitor.streams.lines(0, follow=True)
    await anext(stream)
    waiting = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    monitor.streams.close()
    assert await asyncio.wait_for(waiting, 60) is None


async def test_tampering_shows_in_the_status_and_the_service_goes_on(monitor, journal, api):
    import sqlite3

    journal.append_all([DeviceState(device="edge-01", state="online")] * 3)
    with sqlite3.connect(journal.path) as intruder:
        intruder.executescript(
            "DROP TRIGGER events_keep; UPDATE events SET body = replace(body, 'online', 'offline') WHERE seq = 2"
        )
    await monitor.tail.catch_up()
    said = (await api.get("/v1/status")).json()
    assert said["broken_seq"] == 2
    assert said["state"]["seq"] == 3
    assert said["state"]["devices"]["edge-01"]["state"] == "online", "what cannot be trusted is not shown as a fact"
    assert "fl_journal_verified 0.0" in (await api.get("/metrics")).text


async def test_the_past_comes_by_kind_a_page_at_a_time_the_newest_first(api, journal):
    for number in range(3):
        journal.append(OperatorAction(who="alice", action=f"look {number}"))
        journal.append(DeviceState(device="edge-01", state="online"))
    asked = {"kind": ["operator_action", "run_started"], "most": 2}
    first = (await api.get("/v1/past", params=asked)).json()
    assert [record["body"]["action"] for record in first["events"]] == ["look 2", "look 1"]
    assert first["before"] == 3
    second = (await api.get("/v1/past", params=asked | {"before": first["before"]})).json()
    assert [record["body"]["action"] for record in second["events"]] == ["look 0"]
    assert second["before"] == 0


@pytest.mark.parametrize(
    "asked", [{}, {"kind": "run_started", "most": 501}, {"kind": "run_started", "before": -1}, {"kind": ["x"] * 51}]
)
async def test_a_page_of_the_past_is_bounded(api, asked):
    assert (await api.get("/v1/past", params=asked)).status_code == 400


async def test_logs_that_cannot_be_read_say_why(api, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = await api.get("/v1/logs")
    assert answer.status_code == 503
    assert "journalctl" in answer.json()["what"]


async def test_an_audits_result_is_written_under_the_certificates_name_and_a_failed_one_needs_attention(api, journal, monitor):
    said = {"type": "audit_finished", "who": "mallory", "audit": "membership", "says": "it leaks", "at": "2026-03-02T09:00:00Z"}
    assert (await api.post("/v1/actions", json=said | {"passed": False, "figures": {"auc@4": 0.51}})).status_code == 201
    assert [event.body.who for event in journal.events()] == ["alice@desk"]
    assert monitor.status().state.audits["membership"].says == "it leaks"
    assert [concern.what for concern in concerns(monitor.status()) if "audit" in concern.subject] == ["it leaks"]
    await api.post("/v1/actions", json=said | {"passed": True})
    assert not [concern for concern in concerns(monitor.status()) if "audit" in concern.subject]


@pytest.mark.parametrize("more", [{"says": "x" * 1001}, {"figures": {str(n): 0.0 for n in range(101)}}, {"audit": "other"}])
async def test_an_audits_result_is_bounded(api, journal, more):
    said = {"type": "audit_finished", "audit": "inversion", "passed": True, "says": "", "at": "2026-03-02T09:00:00Z", **more}
    assert (await api.post("/v1/actions", json=said)).status_code == 400
    assert journal.head().seq == 0
