from __future__ import annotations

import pytest

from edgefl.events import replay
from edgefl.events.chain import Head
from edgefl.events.copy import Copy
from edgefl.events.journal import Journal, JournalBroken
from edgefl.events.replay import RecordingInvalid
from edgefl.events.schema import DeviceDropped, DeviceState, RunFinished


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db") as journal:
        journal.append(DeviceState(device="edge-01", state="online"))
        for run in ("1", "2"):
            journal.append_all([DeviceDropped(device="edge-01", reason="deadline")] * 3, run=run)
            journal.append(DeviceState(device="edge-01", state="offline"))
            journal.append(RunFinished(status="completed"), run=run)
        yield journal


def test_a_recording_has_its_run_and_all_that_happened_meanwhile(journal, tmp_path):
    header = replay.record(journal, tmp_path / "run.ndjson", run="2")
    events = list(replay.replay(tmp_path / "run.ndjson"))
    assert (header.first, header.last) == (7, 11)
    assert events == list(journal.events(after=6))
    assert [event.run for event in events] == ["2", "2", "2", "", "2"]


def test_the_whole_journal_can_be_recorded(journal, tmp_path):
    replay.record(journal, tmp_path / "all.ndjson")
    assert list(replay.replay(tmp_path / "all.ndjson")) == list(journal.events())


@pytest.mark.parametrize(
    ("edit", "seq"),
    [
        (lambda lines: [*lines[:3], lines[3].replace(b"deadline", b"nothing!"), *lines[4:]], 9),
        (lambda lines: lines[:-1], 11),
        (lambda lines: [*lines[:2], *lines[3:]], 8),
        (lambda lines: [*lines[:2], b"\xff\xfe\n", *lines[3:]], 8),
        (lambda lines: [*lines[:2], b"[]\n", *lines[3:]], 8),
    ],
)
def test_a_recording_that_was_changed_or_cut_names_the_first_broken_seq(journal, tmp_path, edit, seq):
    path = tmp_path / "run.ndjson"
    replay.record(journal, path, run="2")
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(JournalBroken) as broken:
        list(replay.replay(path))
    assert broken.value.seq == seq


@pytest.fixture
def copy(journal, tmp_path):
    copy = Copy(tmp_path / "copy")
    with copy.held():
        copy.follow(Head(), journal.records())
    return copy


def test_the_operators_copy_of_the_journal_is_looked_at_as_a_recording_is(copy, journal, tmp_path):
    assert list(replay.replay(copy.path)) == list(journal.events())
    with copy.path.open("ab") as file:
        file.write(b'{"at": "20')  # a crash in the middle of a line
    assert list(replay.replay(copy.path)) == list(journal.events())
    other = tmp_path / "sent-by-mail.ndjson"
    other.write_bytes(copy.path.read_bytes())
    assert list(replay.replay(other)) == list(journal.events())


@pytest.mark.parametrize(
    ("edit", "seq"),
    [
        (lambda lines: [*lines[:3], lines[3].replace(b"deadline", b"nothing!"), *lines[4:]], 4),
        (lambda lines: lines[:-1], 11),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
    ],
)
def test_a_copy_that_was_changed_or_cut_is_no_picture_of_what_happened(copy, edit, seq):
    copy.path.write_bytes(b"".join(edit(copy.path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(JournalBroken) as broken:
        list(replay.replay(copy.path))
    assert broken.value.seq == seq


def test_other_files_are_no_recordings(tmp_path):
    (tmp_path / "x").write_text("hello\n")
    for path in (tmp_path / "x", tmp_path / "missing", tmp_path):
        with pytest.raises(RecordingInvalid):
            list(replay.replay(path))


def test_a_run_that_the_journal_does_not_have_cannot_be_recorded(journal, tmp_path):
    with pytest.raises(RecordingInvalid, match="run 9"):
        replay.record(journal, tmp_path / "run.ndjson", run="9")
    assert not (tmp_path / "run.ndjson").exists()


def test_folding_can_stop_anywhere(journal):
    counted = replay.fold(journal.events(), lambda n, _: n + 1, 0, until=4)
    assert counted == 4
