from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from edgefl.monitor.logs import LogLine, Wanted, parse

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
    assert argv[-4:] == ["--priority=err", "--lines=5", "--since=@1772442000.000000", "--follow"]
