"""Terraform's JSON lines become progress."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgefl.infra.changes import Action, Change, changes_in
from edgefl.infra.failure import TerraformFailed
from edgefl.infra.stream import Stream
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned

RESOURCE = {"addr": 'module.hosts.edgefl_lab_host.host["edge-01"]', "resource_key": "edge-01"}


def events(stream: Stream, **message: Any) -> list[Progress]:
    return list(stream.feed(json.dumps(message).encode() + b"\n"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "version", "terraform": "1.11.4"}, []),
        (
            {"type": "planned_change", "change": {"resource": RESOURCE, "action": "replace"}},
            [(Step, "edge-01", "will be replaced")],
        ),
        ({"type": "planned_change", "change": {"resource": RESOURCE, "action": "noop"}}, []),
        ({"type": "resource_drift", "change": {"resource": RESOURCE, "action": "delete"}}, [(Warned, "edge-01", "is gone")]),
        ({"type": "apply_start", "hook": {"resource": RESOURCE, "action": "create"}}, [(Started, "edge-01", "is being created")]),
        (
            {"type": "apply_complete", "hook": {"resource": RESOURCE, "action": "update", "elapsed_seconds": 2}},
            [(Finished, "edge-01", "changed")],
        ),
        (
            {
                "type": "diagnostic",
                "diagnostic": {"severity": "error", "summary": "no power", "detail": "plug it in", "address": RESOURCE["addr"]},
            },
            [(Failed, "edge-01", "no power")],
        ),
        (
            {"type": "diagnostic", "diagnostic": {"severity": "warning", "summary": "deprecated"}},
            [(Warned, "", "deprecated")],
        ),
    ],
)
def test_a_line_says_what_happened_to_which_host(message: dict[str, Any], expected: list[tuple]) -> None:
    assert [(type(event), event.subject, event.what) for event in events(Stream(), **message)] == expected


def test_outputs_are_kept_as_values() -> None:
    stream = Stream()
    events(stream, type="outputs", outputs={"inventory": {"sensitive": False, "value": {"version": 1}}})
    assert stream.outputs == {"inventory": {"version": 1}}


def test_a_line_that_is_no_json_is_kept_as_a_note() -> None:
    stream = Stream()
    assert list(stream.feed(b"panic: runtime error\n")) == []
    assert [(d.severity, d.summary) for d in stream.diagnostics] == [("note", "panic: runtime error")]
    assert stream.errors == []


def test_a_failure_shows_every_error() -> None:
    stream = Stream()
    for name in ("edge-01", "edge-02"):
        address = f'module.hosts.edgefl_lab_host.host["{name}"]'
        events(stream, type="diagnostic", diagnostic={"severity": "error", "summary": "no power", "address": address})
    lines = TerraformFailed("apply", stream.errors).lines()
    assert lines[0] == "✖ terraform apply failed: edge-01: no power (and 1 more)"
    assert lines[1] == "  edge-02: no power"


def test_a_plan_shows_only_what_differs() -> None:
    def planned(actions: list[str], before: Any, after: Any) -> dict[str, Any]:
        change = {"actions": actions, "before": before, "after": after}
        return {"address": f"a.{'-'.join(actions)}", "name": "host", "index": "edge-01", "change": change}

    plan = {
        "resource_changes": [
            planned(["update"], {"cpu": 1, "role": "device"}, {"cpu": 2, "role": "device"}),
            planned(["delete", "create"], {"address": "a"}, {"address": "b"}),
            planned(["no-op"], {"cpu": 1}, {"cpu": 1}),
            planned(["create"], None, {"cpu": 1}),
            planned(["delete"], {"cpu": 1}, None),
        ]
    }
    assert [(change.action, change.before, change.after) for change in changes_in(plan)] == [
        ("create", {}, {"cpu": 1}),
        ("delete", {"cpu": 1}, {}),
        ("replace", {"address": "a"}, {"address": "b"}),
        ("update", {"cpu": 1}, {"cpu": 2}),
    ]


def test_a_plan_never_shows_what_a_module_calls_sensitive() -> None:
    values = {"password": "hunter2", "nested": {"token": "hunter3", "size": 1}, "listed": [{"key": "hunter4"}], "size": 2}
    marks = {"password": True, "nested": {"token": True}, "listed": [{"key": True}]}
    change = {"actions": ["update"], "before": {"size": 1}, "before_sensitive": {"nested": {}, "listed": [{}]}, "after": values}
    resource = {"address": "a.b", "name": "host", "index": "edge-01", "change": {**change, "after_sensitive": marks}}
    (found,) = changes_in({"resource_changes": [resource]})
    assert (found.before, found.after["size"]) == ({"size": 1}, 2)
    assert "hunter" not in str(found)
    assert set(found.after) == set(values)
    resource["change"]["after_sensitive"] = True
    (found,) = changes_in({"resource_changes": [resource]})
    assert set(found.after.values()) == {"(sensitive)"}


@pytest.mark.parametrize(
    ("action", "before", "is_up"),
    [
        ("update", {"memory_mb": 512}, True),
        ("update", {"running": False}, False),
        ("create", {}, False),
        ("replace", {"address": "a"}, False),
        ("delete", {"cpu": 1}, False),
    ],
)
def test_a_host_that_is_made_or_booted_first_cannot_be_looked_at_before(
    action: Action, before: dict[str, Any], is_up: bool
) -> None:
    assert Change("a", "edge-01", action, before, {}).leaves_it_up is is_up


def test_a_site_without_changes_has_an_empty_plan() -> None:
    assert changes_in({}) == []
