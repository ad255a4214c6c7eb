"""A page of past events as an operator's machine reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgefl.events.journal import Journal
from edgefl.events.schema import OperatorAction
from edgefl.monitor.past import Past


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    with Journal(tmp_path / "journal.db") as journal:
        journal.append_all([OperatorAction(who="alice", action=f"look {number}") for number in range(3)])
        return journal.newest(["operator_action"])


def test_a_page_has_typed_events_the_newest_first(records: list[dict[str, Any]]) -> None:
    past = Past.from_json(json.dumps({"events": records, "before": 1}))
    assert [event.seq for event in past.events] == [3, 2, 1]
    assert (past.before, past.broken) == (1, ())


@pytest.mark.parametrize("change", [{"body": "text"}, {"run": "9"}, {"body": {"type": "operator_action", "who": "mallory"}}])
def test_what_does_not_match_its_own_hash_is_no_fact_and_is_named(records: list[dict[str, Any]], change: dict[str, Any]) -> None:
    records[1] |= change
    past = Past.from_json(json.dumps({"events": records, "before": 0}))
    assert [event.seq for event in past.events] == [3, 1]
    assert past.broken == (2,)


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"events": [{}], "before": 0}'])
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Past.from_json(text)
