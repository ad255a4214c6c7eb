"""The journal's chain as the stream brings it, right and wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgefl.events import chain
from edgefl.events.chain import JournalBroken, Walked
from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceDropped
from edgefl.monitor.errors import MonitorUnreachable
from edgefl.monitor.line import heartbeat
from edgefl.monitor.walk import Walk


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    with Journal(tmp_path / "journal.db") as journal:
        journal.append_all([DeviceDropped(device="edge-01", reason="deadline")] * 1200)
        return list(journal.records())


def walked(records: list[dict[str, Any]], seen: dict[int, str] | None = None, *, last: int | None = None) -> list[Walked]:
    """What a console is told while it hears these records; the stream begins with the journal's end."""
    walk = Walk(seen or {})
    beat = heartbeat(len(records) if last is None else last, datetime.now(UTC))
    told = [walk.check() for line in [beat, *map(chain.canonical, records)] if walk.hear(line)]
    return [*told, walk.end()]


def test_a_chain_that_holds_is_told_piece_by_piece_to_its_end(records: list[dict[str, Any]]) -> None:
    told = walked(records, {7: records[6]["hash"]})
    assert [(one.first, one.head.seq, one.last) for one in told] == [(1, 499, 1200), (1, 999, 1200), (1, 1200, 1200)]
    assert told[-1].head.hash == records[-1]["hash"]


def test_an_empty_journal_holds() -> None:
    assert [(one.head.seq, one.last) for one in walked([])] == [(0, 0)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"body": {"type": "device_dropped", "device": "edge-02", "reason": "deadline"}}, "does not match its hash"),
        ({"previous": "f" * 64}, "does not follow"),
        ({"seq": 900}, "says it is 900"),
        ({"hash": None}, "does not match its hash"),
        ({"round": "x"}, "not an event"),
    ],
)
def test_the_first_event_that_breaks_it_is_named(records: list[dict[str, Any]], change: dict[str, Any], why: str) -> None:
    records[799] = records[799] | change
    with pytest.raises(JournalBroken, match=why) as broken:
        walked(records)
    assert broken.value.seq == 800


def test_a_line_that_is_no_record_breaks_it_there(records: list[dict[str, Any]]) -> None:
    walk = Walk({})
    for line in (chain.canonical(records[0]), "[]"):
        walk.hear(line)
    with pytest.raises(JournalBroken) as broken:
        walk.end()
    assert broken.value.seq == 2


def test_a_journal_that_was_written_anew_as_a_whole_is_told_by_who_has_seen_the_old_one(records: list[dict[str, Any]]) -> None:
    head, anew = chain.Head(), []
    for record in records:
        body = record["body"] | {"reason": "lunch"} if record["seq"] == 3 else record["body"]
        changed = record | {"body": body, "previous": head.hash}
        head = chain.Head(record["seq"], chain.digest_of(changed))
        anew.append(json.loads(chain.canonical(changed | {"hash": head.hash})))
    assert walked(anew)[-1].head.seq == 1200, "it holds in itself"
    with pytest.raises(JournalBroken, match="another event than was shown before") as broken:
        walked(anew, {2: records[1]["hash"], 700: records[699]["hash"]})
    assert broken.value.seq == 700


def test_a_lost_tail_is_told_by_who_has_seen_it(records: list[dict[str, Any]]) -> None:
    with pytest.raises(JournalBroken, match="event 1200 was shown before") as broken:
        walked(records[:1000], {1200: records[-1]["hash"]})
    assert broken.value.seq == 1001


def test_a_stream_that_was_cut_short_is_no_broken_journal(records: list[dict[str, Any]]) -> None:
    with pytest.raises(MonitorUnreachable, match="ended the stream at 1000 of 1200"):
        walked(records[:1000], last=1200)
