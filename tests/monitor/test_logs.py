from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from edgefl.monitor.logs import LogLine, Wanted, parse
from edgefl.monitor.stream import Attended

FIELDS = {
    "__REALTIME_TIMESTAMP": "1772442000123456",
    "_SYSTEMD_UNIT": "edgefl-supernode.service",
    "PRIORITY": "4",
    "MESSAGE": "the gate does not answer",
}


def test_a_line_of_journalctl_becomes_a_typed_one():
    line = parse(json.dumps(FIELDS), "edge-03")
    assert line == LogLine(
        datetime(2026, 3, 2, 9, 0, 0, 123456, UTC), "edge-03", "edgefl-supernode", "warning", "the gate does not answer"
    )
    assert LogLine.from_json(line.to_json()) == line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MESSAGE": list("Grüße".encode("latin-1"))}, "Gr\ufffd\ufffde"),
        ({"MESSAGE": [0x1B, 91, 51]}, "\x1b[3"),
        ({"MESSAGE": "\x1b[92mINFO \x1b[0m: ready"}, "INFO : ready"),
        ({"MESSAGE": None}, ""),
        ({"MESSAGE": "x" * 20_000}, "x" * 8192),
    ],
)
def test_messages_that_are_no_plain_text_are_read_too(changes, message):
    assert parse(json.dumps({**FIELDS, **changes}), "edge-03").message == message


@pytest.mark.parametrize("text", ["", "-- No entries --", "{}", "[]", '{"__REALTIME_TIMESTAMP": "soon"}', '{"MESSAGE": "x"}'])
def test_what_is_no_line_is_left_out(text):
    assert parse(text, "edge-03") is None


def test_a_manager_message_about_a_unit_is_that_units():
    said = {**FIELDS, "_SYSTEMD_UNIT": "init.scope", "UNIT": "edgefl-gate.service"}
    assert parse(json.dumps(said), "coordinator").unit == "edgefl-gate"


def test_a_service_cannot_speak_for_another():
    assert parse(json.dumps({**FIELDS, "UNIT": "edgefl-gate.service"}), "coordinator").unit == "edgefl-supernode"


def test_what_is_wanted_becomes_an_argument_list():
    since = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    argv = Wanted(follow=True, since=since, level="err", lines=5).command()
    assert argv[:3] == ["journalctl", "--output=json", "--no-pager"]
    assert {"--unit=edgefl-gate", "--unit=edgefl-supernode"} <= set(argv)
    assert {"--unit=walls-edgefl"} <= set(argv)
    assert argv[-5:] == ["--priority=err", "--lines=5", "--since=@1772442000.000000", "--follow", "--merge"]


FIELDS_OF_A_SERVICE = {"log.level": "info", "ecs.version": "9.3.0", "host.name": "coordinator", "service.name": "edgefl-gate"}


def test_fields_of_a_service_say_what_it_says_and_not_who_it_is():
    said = json.dumps({**FIELDS_OF_A_SERVICE, "message": "all is well", "error.stack_trace": "Traceback"})
    line = parse(json.dumps({**FIELDS, "MESSAGE": said}), "edge-03")
    assert line == LogLine(line.at, "edge-03", "edgefl-supernode", "warning", "all is well", "Traceback")


@pytest.mark.parametrize("said", ["{", "{}", '{"message": "x"}', '{"message": 1, "ecs.version": ""}', '{"a":' * 9000])
def test_what_only_looks_like_fields_is_text(said):
    assert parse(json.dumps({**FIELDS, "MESSAGE": said}), "edge-03").message == said[:8192]


def test_a_text_is_looked_for_in_words_and_traces_and_the_newest_few_are_wanted():
    lines = [
        LogLine(datetime(2026, 3, 2, second=n, tzinfo=UTC), "a", "u", "info", f"Line {n}", "KeyError" * (n == 7))
        for n in range(9)
    ]
    wanted = Wanted(lines=2, text="lINE")
    assert [line.message for line in wanted.of(lines)] == ["Line 7", "Line 8"]
    assert [line.message for line in Wanted(text="keyerror").of(lines)] == ["Line 7"]
    assert Wanted(lines=0).of(lines) == []
    assert "--lines=10000" in wanted.command()


async def test_a_reader_ends_with_whoever_asked_for_it_though_nothing_is_written():
    ended = asyncio.Event()

    async def silent():
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            ended.set()

    async def gone():
        return {"type": "http.disconnect"}

    async def sent(_):
        pass

    await asyncio.wait_for(Attended(silent())({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, sent), 60)
    assert ended.is_set()
