"""The operator's copy: what it holds cannot be changed here or on the coordinator without being seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefl.errors import ExitCode
from edgefl.events.chain import Head, JournalBroken
from edgefl.events.copy import Copy, HistoryRewritten
from edgefl.events.journal import Journal
from edgefl.events.schema import OperatorAction


def look(number: int, who: str = "alice") -> OperatorAction:
    return OperatorAction(who=who, action=f"look {number}")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "journal.db")
    journal.append_all([look(number) for number in range(5)])
    return journal


@pytest.fixture
def copy(tmp_path: Path, journal: Journal) -> Copy:
    copy = Copy(tmp_path / "copy")
    with copy.held():
        copy.follow(Head(), journal.records())
    return copy


def test_a_copy_grows_with_the_journal_and_ends_where_it_does(copy: Copy, journal: Journal) -> None:
    journal.append_all([look(5), look(6)])
    head = copy.head()
    assert copy.follow(head, journal.records(head.seq - 1)) == journal.head() == copy.head() == copy.seen()
    assert list(copy.events()) == list(journal.events())
    assert copy.follow(copy.head(), journal.records(6)) == journal.head(), "nothing new is nothing wrong"
    assert copy.path.stat().st_mode & 0o777 == 0o600


def test_a_history_that_was_written_anew_as_a_whole_is_seen(copy: Copy, tmp_path: Path) -> None:
    with Journal(tmp_path / "other.db") as other:
        other.append_all([look(number, who="mallory") for number in range(9)])
        with pytest.raises(HistoryRewritten, match="seq 5: it is another event than was shown before") as seen:
            copy.follow(copy.head(), other.records(4))
    assert seen.value.exit_code == ExitCode.JOURNAL_BROKEN
    assert str(copy.path) in seen.value.hint
    assert len(list(copy.events())) == 5, "what it said before is kept"


def test_a_coordinator_that_goes_on_from_another_event_is_seen(copy: Copy, tmp_path: Path) -> None:
    with Journal(tmp_path / "other.db") as other:
        other.append_all([look(number, who="mallory") for number in range(9)])
        with pytest.raises(HistoryRewritten, match="seq 6: it does not follow"):
            copy.follow(copy.head(), other.records(5))


def test_the_same_hash_on_another_content_is_seen(copy: Copy, journal: Journal) -> None:
    (last,) = journal.records(4)
    last["body"] = {**last["body"], "who": "mallory"}
    with pytest.raises(HistoryRewritten, match="seq 5"):
        copy.follow(copy.head(), [last])


def changed(line: str) -> str:
    return json.dumps({**json.loads(line), "at": "2020-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("tamper", "seq"),
    [
        (lambda lines: [*lines[:2], changed(lines[2]), *lines[3:]], 3),
        (lambda lines: [*lines[:1], *lines[2:]], 2),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: lines[:3], 4),
        (lambda _: [], 1),
        (lambda lines: [*lines[:3], "{", *lines[4:]], 4),
        (lambda lines: [*lines[:3], "[]", *lines[4:]], 4),
    ],
)
def test_a_copy_that_was_changed_names_the_first_event_that_does_not_hold(
    copy: Copy, tamper: Callable[[list[str]], list[str]], seq: int
) -> None:
    lines = tamper(copy.path.read_text().splitlines())
    copy.path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(JournalBroken) as broken:
        list(copy.events())
    assert broken.value.seq == seq


def test_a_copy_that_lost_its_tail_does_not_grow_over_the_gap(copy: Copy) -> None:
    copy.path.write_text("".join(line + "\n" for line in copy.path.read_text().splitlines()[:3]))
    with pytest.raises(JournalBroken, match="seq 4: it ends here, and event 5 was shown before"):
        copy.head()


def test_a_line_that_a_crash_left_half_is_written_again(copy: Copy, journal: Journal) -> None:
    journal.append(look(5))
    with copy.path.open("a") as file:
        file.write('{"seq": 6, "bo')
    assert copy.head().seq == 5
    copy.follow(copy.head(), journal.records(4))
    assert [event.seq for event in copy.events()] == [1, 2, 3, 4, 5, 6]


def test_a_crash_between_the_events_and_their_anchor_loses_nothing(copy: Copy, journal: Journal) -> None:
    anchor = copy.directory / "seen.json"
    before = anchor.read_text()
    journal.append(look(5))
    copy.follow(copy.head(), journal.records(4))
    anchor.write_text(before)
    assert copy.head().seq == 6
    assert [event.seq for event in copy.events()] == [1, 2, 3, 4, 5, 6]


def test_a_line_longer_than_a_block_is_read_whole(copy: Copy, journal: Journal) -> None:
    journal.append(OperatorAction(who="alice", action="look", why="x" * 200_000))
    copy.follow(copy.head(), journal.records(4))
    assert copy.head() == journal.head()


def test_without_a_copy_there_is_nothing(tmp_path: Path) -> None:
    assert Copy(tmp_path / "none").head() == Copy(tmp_path / "none").seen() == Head()
    assert list(Copy(tmp_path / "none").events()) == []
