"""Log lines as the Elastic Common Schema, and what Elastic's and Grafana's programs are told to do with them.

None of those programs runs here. What is checked: that every field of a document is one of the published schema (ecs/fields.json
says where it is from) and is mapped as there; that what Elasticsearch is sent has the shape that its API takes
(ecs/elasticsearch.json); and that what the configurations name is what is written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from edgefl.monitor import ecs
from edgefl.monitor.logs import LogLine
from edgefl.operations import shipping
from edgefl.voice import ECS, Fields
from tests.monitor.watching import ROLE
from tests.walls import role_program

FIELDS: dict[str, str] = json.loads((Path(__file__).parent / "ecs" / "fields.json").read_text())["fields"]
API: dict[str, Any] = json.loads((Path(__file__).parent / "ecs" / "elasticsearch.json").read_text())
FILES = ROLE / "files"
LINE = LogLine(
    datetime(2026, 3, 2, 9, 0, 0, 123456, UTC), "edge-03", "edgefl-supernode", "warning", "“gate”\ndoes not answer", "Traceback …"
)
DOCUMENT = ecs.document(LINE, "hospital-net")
INDEX = "logs-edgefl.log-hospital_net"
LABELS = "labels."


def flat(said: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in said.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def mapped(properties: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in properties.items():
        if "properties" in value:
            yield from mapped(value["properties"], f"{before}{name}.")
        else:
            yield before + name, value["type"]


def wrong(shape: str, sent: dict[str, Any]) -> list[str]:
    """Where something is not as Elasticsearch's API has it."""
    validator = Draft202012Validator({**API, "$ref": f"#/$defs/{shape}"})
    return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(sent)]


def template() -> dict[str, Any]:
    return json.loads((FILES / "elasticsearch" / "index-template.json").read_text())


def test_every_field_of_a_document_is_the_schemas_and_of_its_type():
    for name, value in flat(DOCUMENT):
        kind = "keyword" if name.startswith(LABELS) else FIELDS[name]
        assert isinstance(value, int if kind == "long" else str), name
        assert kind != "keyword" or len(value) <= 1024, name
    assert datetime.fromisoformat(DOCUMENT["@timestamp"]) == LINE.at
    assert DOCUMENT["log"]["syslog"]["severity"] == {"code": 4, "name": "warning"}
    assert FIELDS["labels"] == "object"


def test_the_index_template_maps_what_documents_have_and_as_the_schema_does():
    fields = dict(mapped(template()["template"]["mappings"]["properties"]))
    assert set(fields) == {name for name, _ in flat(DOCUMENT)}
    assert {name: kind for name, kind in fields.items() if not name.startswith(LABELS)} == {
        name: FIELDS[name] for name in fields if not name.startswith(LABELS)
    }
    assert all(fnmatch(INDEX, pattern) for pattern in template()["index_patterns"])
    assert template()["priority"] > 200, "of Elasticsearch's own templates for logs-*-*, none comes first"


def test_a_line_is_the_same_document_whoever_reads_it_and_another_line_is_another():
    again = ecs.document(LogLine.from_json(LINE.to_json()), "hospital-net")
    assert ecs.action(again) == {"create": {"_index": INDEX, "_id": DOCUMENT["event"]["id"]}}
    others = [LogLine(LINE.at, "edge-04", *vals) for vals in [(LINE.unit, LINE.level, LINE.message, LINE.trace)]]
    others += [LogLine(LINE.at, LINE.host, LINE.unit, LINE.level, LINE.message)]
    assert len({ecs.document(line, "hospital-net")["event"]["id"] for line in [LINE, *others]}) == 3


def test_what_services_write_to_journald_are_fields_of_the_schema_of_one_version(capsys):
    try:
        raise ValueError("no such key")
    except ValueError:
        record = logging.LogRecord("edgefl", logging.ERROR, __file__, 1, "it failed", (), sys.exc_info())
    walls = role_program("isolation", "walls")
    walls.say("warning", "healed")
    gate = re.search(r"{% set ecs = '(.+)' %}", (ROLE.parent / "coordinator" / "templates" / "haproxy.cfg.j2").read_text())[1]
    written = [json.loads(line[3:]) for line in (Fields().format(record), capsys.readouterr().out)]
    written.append(json.loads(f'{gate}"}}'))  # what haproxy makes of it, tests/monitor/test_gate_log.py asks haproxy
    for fields in written:
        assert {"@timestamp", "log.level", "message"} <= set(fields) <= set(FIELDS), fields
        assert fields["ecs.version"] == ECS
        assert all(isinstance(value, str) for value in fields.values())
    assert {"error.type", "error.stack_trace"} <= set(written[0])


@pytest.mark.parametrize("site", ["a", "hospital-net", "a-b-c"])
def test_a_sites_name_makes_a_namespace_that_data_streams_take(site):
    assert re.fullmatch(r"[^-\\/*?\"<>| ,#:]{1,100}", ecs.namespace(site))


def test_in_bulk_each_document_is_one_line_behind_its_action():
    lines = [ecs.dumped(ecs.action(DOCUMENT)), ecs.dumped(DOCUMENT)]
    assert all("\n" not in line for line in lines)
    assert json.loads(lines[1]) == DOCUMENT
    assert wrong("BulkOperationContainer", json.loads(lines[0])) == []


def test_the_template_has_the_shape_that_elasticsearch_takes():
    assert wrong("IndicesPutIndexTemplate", template()) == []


@pytest.mark.parametrize(
    ("shape", "sent", "where"),
    [
        ("BulkOperationContainer", {"create": {"_index": "logs", "id": "1"}}, "create"),
        ("BulkOperationContainer", {"create": {"_index": 1}}, "create._index"),
        ("BulkOperationContainer", {"create": {}, "index": {}}, ""),
        ("IndicesPutIndexTemplate", {"template": {"lifecycle": {"retention": "90d"}}}, "template.lifecycle"),
        ("IndicesPutIndexTemplate", {"priority": "high"}, "priority"),
    ],
)
def test_what_elasticsearch_would_not_take_is_seen(shape, sent, where):
    assert wrong(shape, sent) == [where]


def test_filebeat_reads_what_is_written_and_sends_it_where_bulk_would():
    config = yaml.safe_load((FILES / "filebeat" / "filebeat.yml").read_text())
    [reads] = config["filebeat.inputs"]
    [pattern] = reads["paths"]
    for name in (shipping._NAME, "edgefl-20260302T090000000001.ndjson"):
        assert fnmatch(f"/var/log/edgefl/{name}", pattern)
    named = re.sub(r"%{\[([a-z_.]+)\]}", lambda found: dict(flat(DOCUMENT))[found[1]], config["output.elasticsearch"]["index"])
    assert named == INDEX
    [copied] = config["processors"][0]["copy_fields"]["fields"]
    assert (dict(flat(DOCUMENT))[copied["from"]], copied["to"]) == (ecs.action(DOCUMENT)["create"]["_id"], "@metadata._id")


def test_logstash_sends_it_where_bulk_would():
    text = (FILES / "logstash" / "edgefl.conf").read_text()

    def said(option: str) -> str:
        value = re.search(rf'^ +{option} => "(.+)"$', text, re.MULTILINE)[1]
        return re.sub(r"%{(\[.+?\])}", lambda found: dict(flat(DOCUMENT))[found[1][1:-1].replace("][", ".")], value)

    assert (said("index"), said("document_id"), said("action")) == (INDEX, DOCUMENT["event"]["id"], "create")
    assert text.count("{") == text.count("}")


def test_saved_searches_ask_for_fields_that_there_are_of_the_data_view_that_comes_with_them():
    view, *searches = [json.loads(line) for line in (FILES / "kibana" / "edgefl.ndjson").read_text().splitlines()]
    assert fnmatch(INDEX, view["attributes"]["title"])
    assert len(searches) >= 5
    known = {name for name, _ in flat(DOCUMENT)}
    for search in searches:
        said = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        [reference] = search["references"]
        assert (reference["name"], reference["id"]) == (said["indexRefName"], view["id"])
        assert set(search["attributes"]["columns"]) <= known
        assert set(re.findall(r"([a-z_.]+) (?::|<=)", said["query"]["query"])) <= known


def test_alloy_takes_fields_that_there_are_and_makes_labels_of_few():
    text = (FILES / "alloy" / "config.alloy").read_text()

    def block(name: str) -> dict[str, str]:
        body = re.search(rf"{re.escape(name)} {{\s+\w+ += {{(.+?)}}", text, re.DOTALL)[1]
        return dict(re.findall(r'^ +(\w+) += "(.+)",$', body, re.MULTILINE))

    taken = block("stage.json")
    assert {path.replace('\\"', "") for path in taken.values()} <= {name for name, _ in flat(DOCUMENT)}
    assert set(block("stage.labels")) == {"host", "level", "service", "site"}
    assert set(block("stage.labels").values()) | set(block("stage.structured_metadata").values()) | {"at", "message"} == set(
        taken
    )
    assert f'"/var/log/edgefl/{shipping._NAME}"' in text
    assert (text.count("{"), text.count("[")) == (text.count("}"), text.count("]"))
