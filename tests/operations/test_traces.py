"""Rounds as traces, as a collector of OpenTelemetry's reads them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from edgefl.errors import ExitCode
from edgefl.events.schema import Event, RoundFinished, RunFinished
from edgefl.operations.delivery import NotDelivered, SecretUnusable
from edgefl.operations.export import NotAsked
from edgefl.operations.traces import Rounds, TracesMissing, collector
from edgefl.site.model import Site
from tests.console.conftest import Recorder
from tests.monitor.happened import RUN, happened, row_of, started, tell

from .collector import Collector, Seen, collecting


@pytest.fixture
def taking() -> Iterator[Collector]:
    with collecting() as taking:
        yield taking


def site_for(endpoint: str, **more: object) -> Site:
    traces = {"endpoint": endpoint, **more}
    said = {"name": "clinic", "devices": [{"name": "edge-01"}], "observability": {"traces": traces}}
    return Site.model_validate(said)


async def sent(taking: Collector, events: list[Event], *, known: int = 0, **more: object) -> list[Seen]:
    """Everything that a collector has after these events; known: the last that it was told of before."""
    async with collector(site_for(taking.address, **more)) as exporter:
        for event in events:
            await exporter.take(event, is_new=event.seq > known)
    return taking.spans


def of(spans: list[Seen], round_: int) -> list[Seen]:
    """The spans of a round's trace, its root first."""
    root = next(one for one in spans if one.span.name == "round" and one.attributes["edgefl.round"] == round_)
    return [root, *(one for one in spans if one.span.trace_id == root.span.trace_id and one is not root)]


async def test_a_round_is_one_trace_of_stages_and_devices(taking: Collector) -> None:
    spans = of(await sent(taking, happened()), 1)
    names = {one.span.span_id: (one.instance, one.span.name) for one in spans}
    assert len(names) == len(spans) == 15, "every span has an id of its own"
    tree = {(*names[one.span.span_id], names.get(one.span.parent_span_id)) for one in spans}
    root = ("coordinator", "round")
    assert tree == {
        (*root, None),
        *(("coordinator", stage, root) for stage in ("select", "send", "score", "aggregate", "evaluate")),
        *((device, "device", root) for device in ("edge-01", "edge-02", "edge-03")),
        *((device, part, (device, "device")) for device in ("edge-01", "edge-02") for part in ("start", "train", "upload")),
    }
    assert {one.service for one in spans} == {"edgefl-coordinator", "edgefl-device"}


async def test_times_are_the_journals(taking: Collector) -> None:
    events = happened()
    row, spans = row_of(events), of(await sent(taking, events), 1)
    when = {
        (one.instance, one.span.name): [
            (nano - int(row.started.timestamp() * 1e6) * 1000) / 1e9
            for nano in (one.span.start_time_unix_nano, one.span.end_time_unix_nano)
        ]
        for one in spans
    }
    assert when["coordinator", "round"] == [-4, 23]
    assert when["coordinator", "select"] == [-4, 0]
    assert when["edge-02", "train"] == [0.5, 6.5]
    assert when["edge-03", "device"] == [0, 20]
    assert when["coordinator", "evaluate"] == [21, 23]


async def test_a_device_tells_what_its_update_was_and_what_became_of_it(taking: Collector) -> None:
    spans = of(await sent(taking, happened()), 1)
    said = {one.instance: one for one in spans if one.span.name == "device"}
    flagged = said["edge-02"].attributes
    assert (flagged["edgefl.flagged"], flagged["edgefl.verdict"], flagged["edgefl.weight"]) == (True, "reject", 0.0)
    assert (flagged["edgefl.samples"], flagged["edgefl.bytes_up"], flagged["edgefl.score"]) == (50, 1000, 9.0)
    assert said["edge-01"].span.status.code == Status.STATUS_CODE_UNSET
    lost = said["edge-03"].span.status
    assert (lost.code, lost.message) == (Status.STATUS_CODE_ERROR, "no reply within 20 s")
    assert "edgefl.samples" not in said["edge-03"].attributes
    assert spans[0].attributes["edgefl.accuracy"] == 0.8


async def test_a_round_that_does_not_count_is_a_trace_that_failed(taking: Collector) -> None:
    spans = of(await sent(taking, happened()), 2)
    assert [one.span.name for one in spans] == ["round", "select"]
    status = spans[0].span.status
    assert (status.code, status.message) == (Status.STATUS_CODE_ERROR, "1 devices are online, 2 are needed")


async def test_ids_are_the_same_whenever_and_by_whom_it_is_told(taking: Collector) -> None:
    events = happened()
    whole = await sent(taking, events)
    ends = next(event.seq for event in events if isinstance(event.body, RoundFinished))
    taking.requests.clear()
    again = await sent(taking, events)
    taking.requests.clear()
    assert again == whole
    rest = await sent(taking, events[ends - 1 :], known=ends)
    assert rest == of(whole, 2), "told from where the first round ended"


def test_a_round_that_its_run_did_not_end_is_told_with_the_run() -> None:
    recorder = Recorder()
    recorder.run(RUN)
    recorder.say(started())
    tell(recorder, 1, ends=False)
    recorder.say(RunFinished(status="stopped"), after_s=1)
    rounds = Rounds()
    ended = [found for event in recorder.events if (found := rounds.after(event)) is not None]
    assert [(one.row.state, one.row.reason) for one in ended] == [("skipped", "the run stopped")]
    assert ended[0].row.finished == recorder.events[-1].at


def test_a_run_whose_end_nobody_saw_ends_where_it_was_last_heard_of() -> None:
    recorder = Recorder()
    recorder.run(RUN)
    recorder.say(started())
    tell(recorder, 1, ends=False)
    heard = recorder.now
    recorder.run("8")
    recorder.say(started(resumes=RUN), after_s=3600)
    tell(recorder, 1)
    rounds = Rounds()
    ended = [found for event in recorder.events if (found := rounds.after(event)) is not None]
    assert [(one.run, one.row.state) for one in ended] == [(RUN, "skipped"), ("8", "finished")]
    assert ended[0].row.finished == heard
    assert ended[1].row.since == heard + timedelta(seconds=3600)


async def test_a_collector_that_is_busy_is_asked_again(taking: Collector) -> None:
    taking.answers = [429, 503]
    assert len(of(await sent(taking, happened()), 1)) == 15
    assert len(taking.requests) == 2


@pytest.mark.parametrize(("code", "what"), [(400, "400 Bad Request: not now"), (401, "401 Unauthorized"), (302, "302")])
async def test_a_collector_that_refuses_is_said_with_its_answer(taking: Collector, code: int, what: str) -> None:
    taking.answers = [code]
    with pytest.raises(NotDelivered, match=what) as refused:
        await sent(taking, happened())
    assert refused.value.exit_code == ExitCode.EXPORT_FAILED


async def test_a_collector_that_leaves_spans_out_is_said_and_not_told_again(taking: Collector) -> None:
    taking.rejects = 3
    async with collector(site_for(taking.address)) as exporter:
        told = [one for event in happened() if (one := await exporter.take(event, is_new=True)) is not None]
    assert [one.is_settled for one in told] == [True, True]
    assert told[0].lacks == f"{taking.address} left 3 spans out: too old"


async def test_headers_come_from_a_file_and_are_never_said(taking: Collector, tmp_path: Path) -> None:
    secret = tmp_path / "otlp"
    secret.write_text("Authorization: Bearer hunter2\n\nX-Scope-OrgID: clinic\n")
    await sent(taking, happened(), headers_file=str(secret))
    assert taking.headers[0]["Authorization"] == "Bearer hunter2"
    assert taking.headers[0]["X-Scope-OrgID"] == "clinic"
    secret.write_text("Bearer hunter2")
    with pytest.raises(SecretUnusable, match=f"line 1 of {secret} is no header") as unusable:
        await sent(taking, happened(), headers_file=str(secret))
    assert "hunter2" not in "".join(unusable.value.lines())


async def test_half_a_character_in_a_devices_words_stops_no_trace(taking: Collector) -> None:
    recorder = Recorder()
    recorder.run(RUN)
    recorder.say(started())
    tell(recorder, 1, ends=False)
    odd = recorder.events[-1].model_copy(
        update={"body": RunFinished.model_construct(status="failed", reason="\ud83d"), "seq": recorder.events[-1].seq + 1}
    )
    spans = await sent(taking, [*recorder.events, odd])
    assert of(spans, 1)[0].span.status.message == "the run failed: ?"


async def test_a_machine_without_opentelemetry_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefl.operations.traces.find_spec", lambda _: None)
    with pytest.raises(TracesMissing) as missing:
        async with collector(site_for("http://127.0.0.1:9/v1/traces")):
            pass
    assert missing.value.hint == "pip install 'edgefl[traces]'"


async def test_nobody_is_told_what_site_yaml_does_not_ask_for() -> None:
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]})
    with pytest.raises(NotAsked, match="names no collector"):
        async with collector(site):
            pass
