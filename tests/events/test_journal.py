from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from edgefl.errors import ExitCode
from edgefl.events.journal import Journal, JournalBroken, JournalUnusable
from edgefl.events.schema import DeviceDropped, DeviceState, OperatorAction, UpdateScored


def dropped(device: str = "edge-01") -> DeviceDropped:
    return DeviceDropped(device=device, reason="deadline")


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db") as journal:
        yield journal


def test_events_come_back_as_they_were_written_and_numbered_from_one(journal):
    written = [journal.append(dropped(f"edge-{n:02d}"), run="7", round=n) for n in range(3)]
    assert list(journal.events()) == written
    assert [event.seq for event in written] == [1, 2, 3]
    assert [event.seq for event in journal.events(after=1, until=2)] == [2]
    assert journal.verify() == journal.head()


def test_the_dump_of_an_event_is_the_record_that_was_hashed(journal):
    event = journal.append(
        UpdateScored(
            device="edge-07", rule="guard", score=float("inf"), threshold=3, verdict="reject", weight=0, norm=1e-12, cosine=-0.25
        ),
        run="7",
        round=3,
    )
    assert json.loads(event.model_dump_json()) == next(journal.records())


def test_a_run_and_a_round_can_be_asked_for(journal):
    journal.append(dropped(), run="1", round=1)
    journal.append(DeviceState(device="edge-01", state="offline"))
    journal.append(dropped(), run="2", round=1)
    assert [event.seq for event in journal.events(run="2")] == [3]
    assert journal.span("1") == (1, 1)
    assert journal.span("9") == (0, 0)


def test_several_events_are_written_together_or_not_at_all(journal):
    class Unwritable(DeviceDropped):
        def model_dump_json(self, **_):
            raise ValueError("cannot be written")

    with pytest.raises(ValueError, match="cannot be written"):
        journal.append_all([dropped(), Unwritable(device="edge-02", reason="x")])
    assert journal.head().seq == 0
    assert [event.seq for event in journal.append_all([dropped()] * 3)] == [1, 2, 3]


def test_the_database_itself_refuses_to_change_forget_or_skip(journal):
    journal.append_all([dropped()] * 3)
    with sqlite3.connect(journal.path) as stranger:
        for sql in (
            "UPDATE events SET body = '{}' WHERE seq = 2",
            "DELETE FROM events WHERE seq = 3",
            "INSERT OR REPLACE INTO events VALUES (2, 'now', '', 0, 1, 'x', '{}', '', '')",
            "INSERT INTO events VALUES (9, 'now', '', 0, 1, 'x', '{}', '', '')",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                stranger.execute(sql)
    assert journal.verify().seq == 3


@pytest.mark.parametrize(
    ("sql", "seq"),
    [
        ("UPDATE events SET body = replace(body, 'deadline', 'nothing') WHERE seq = 4", 4),
        ("UPDATE events SET body = 'not json' WHERE seq = 4", 4),
        ("UPDATE events SET at = '2020-01-01T00:00:00Z' WHERE seq = 1", 1),
        ("UPDATE events SET run = '8' WHERE seq = 6", 6),
        ("DELETE FROM events WHERE seq = 3", 3),
        ("DELETE FROM events WHERE seq < 3", 1),
    ],
)
def test_tampering_behind_the_triggers_is_found_at_the_first_broken_seq(journal, sql, seq):
    journal.append_all([dropped()] * 6, run="7")
    with sqlite3.connect(journal.path) as intruder:
        intruder.executescript(f"DROP TRIGGER events_keep; DROP TRIGGER events_stay; {sql};")
    with pytest.raises(JournalBroken) as broken:
        journal.verify()
    assert broken.value.seq == seq
    assert broken.value.exit_code == ExitCode.JOURNAL_BROKEN


def test_a_rewritten_tail_does_not_lead_to_the_head_that_was_remembered(journal):
    journal.append_all([dropped()] * 3)
    remembered = journal.head()
    with sqlite3.connect(journal.path) as intruder:
        intruder.executescript("DROP TRIGGER events_stay; DELETE FROM events WHERE seq = 3;")
    journal.append(dropped("edge-02"))
    assert journal.verify().seq == 3
    journal.append(dropped())
    with pytest.raises(JournalBroken):
        journal.verify(remembered)


def test_a_file_that_is_no_database_is_a_broken_journal(tmp_path):
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(JournalBroken):
        Journal(path)


def test_a_directory_that_cannot_be_written_is_said_with_what_to_check(tmp_path):
    with pytest.raises(JournalUnusable) as error:
        Journal(tmp_path / "missing" / "journal.db")
    assert "No such file" in error.value.what
    assert "drwxrws---" in error.value.hint


def test_a_writer_that_never_lets_go_is_reported_and_not_waited_for_for_ever(tmp_path):
    with Journal(tmp_path / "journal.db", busy_timeout_s=0.2) as journal:
        journal.append(dropped())
        holder = sqlite3.connect(journal.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnusable, match="locked"):
            journal.append(dropped())
        assert len(list(journal.events())) == 1, "readers are not held up by a writer"
        holder.execute("ROLLBACK")
        holder.close()
        assert journal.append(dropped()).seq == 2


def _write(path, run, number, start):
    start.wait(20)
    with Journal(path) as journal:
        for n in range(number):
            journal.append(dropped(f"edge-{n:02d}"), run=run, round=n)


@pytest.mark.slow
def test_processes_that_write_at_once_make_one_unbroken_chain(tmp_path):
    path, context = tmp_path / "journal.db", multiprocessing.get_context("spawn")
    start = context.Event()  # all of them create the file, the schema and the first event at the same moment
    writers = [context.Process(target=_write, args=(path, str(n), 60, start)) for n in range(4)]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(50)
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    with Journal(path) as journal:
        assert journal.verify().seq == 240
        for run in "0123":
            assert [event.round for event in journal.events(run=run)] == list(range(60))


def test_threads_share_one_journal(journal):
    threads = [threading.Thread(target=lambda: [journal.append(dropped()) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert journal.verify().seq == 80


BECOME_AND_WRITE = """
import os, sys
from pathlib import Path
from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceDropped
path, group, own = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.setgroups([group]); os.setgid(own); os.setuid(own); os.umask(0o077)
journal = Journal(path)
journal.append(DeviceDropped(device='edge-01', reason='deadline'))
print('written', flush=True)
sys.stdin.read()
journal.append(DeviceDropped(device='edge-02', reason='deadline'))
"""


@pytest.fixture
def shared_directory():
    """As the coordinator's role makes it, below a directory that every user may pass."""
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o711)
        shared = Path(outer, "journal")
        shared.mkdir()
        os.chown(shared, 0, 64_321)
        shared.chmod(0o2770)
        yield shared


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming other users needs root")
def test_two_users_of_one_group_write_the_same_journal_whatever_their_umask(shared_directory):
    group, shared = 64_321, shared_directory
    path = shared / "journal.db"
    users = []
    try:
        for own in (64_401, 64_402):
            user = subprocess.Popen(
                [sys.executable, "-c", BECOME_AND_WRITE, str(path), str(group), str(own)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            users.append(user)
            assert user.stdout.readline() == "written\n"
        modes = {found.name: found.stat() for found in shared.iterdir()}
        assert set(modes) == {"journal.db", "journal.db-wal", "journal.db-shm"}
        assert {stat.S_IMODE(found.st_mode) for found in modes.values()} == {0o660}
        assert {found.st_gid for found in modes.values()} == {group}
    finally:
        codes = []
        for user in users:
            user.communicate()
            codes.append(user.returncode)
    assert codes == [0, 0]
    with Journal(path) as journal:
        assert journal.verify().seq == 4


def test_a_follower_sees_what_another_connection_writes_and_stops_when_told(journal):
    stop, seen = threading.Event(), []

    def follow():
        for event in journal.follow(stop=stop, poll_s=0.01):
            seen.append(event.seq)
            if event.seq == 5:
                stop.set()

    thread = threading.Thread(target=follow)
    thread.start()
    with Journal(journal.path) as other:
        for _ in range(5):
            other.append(dropped())
    thread.join(60)
    assert not thread.is_alive()
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_an_event_is_on_disk_when_append_returns(tmp_path):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from edgefl.events.journal import Journal\n"
        "from edgefl.events.schema import DeviceDropped\n"
        "Journal(Path(sys.argv[1])).append(DeviceDropped(device='edge-01', reason='deadline'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "journal.db"
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    with Journal(path) as journal:
        assert journal.verify().seq == 1


def test_a_long_journal_is_read_in_pages_while_it_grows(journal):
    journal.append_all([dropped()] * 1200)
    read = journal.events()
    first = next(read)
    journal.append(dropped())
    assert first.seq == 1
    assert sum(1 for _ in read) == 1200
    began = time.monotonic()
    assert journal.page(1200) != []
    assert time.monotonic() - began < 1


def test_the_newest_of_some_kinds_come_a_page_at_a_time(journal):
    for number in range(6):
        journal.append(dropped(f"edge-{number:02d}"))
        journal.append(DeviceState(device=f"edge-{number:02d}", state="online"))
    journal.append(OperatorAction(who="alice", action="look"))
    asked = ["operator_action", "device_dropped", "operator_action"]
    first = journal.newest(asked, size=4)
    assert [record["seq"] for record in first] == [13, 11, 9, 7]
    assert [record["seq"] for record in journal.newest(asked, before=7, size=4)] == [5, 3, 1]
    assert journal.newest(asked, before=1) == []
    assert journal.newest(["nothing"]) == []
    assert journal.newest([]) == []
    assert first[0] == next(journal.records(12))


def test_a_page_of_the_newest_costs_the_same_however_long_the_journal_is(journal):
    def steps() -> int:
        taken = 0

        def step() -> None:
            nonlocal taken
            taken += 1

        journal._connection.set_progress_handler(step, 10)
        assert len(journal.newest(["operator_action", "run_started"], before=3)) == 2
        journal._connection.set_progress_handler(None, 0)
        return taken

    journal.append_all([OperatorAction(who="alice", action="look")] * 2)
    short = steps()
    journal.append_all([dropped()] * 2000)
    journal.append_all([OperatorAction(who="alice", action="look")] * 2000)
    assert steps() <= short + 1


def test_an_event_cannot_be_hidden_from_its_kind_where_the_chain_would_not_show_it(journal):
    journal.append(OperatorAction(who="mallory", action="release"))
    with sqlite3.connect(journal.path) as intruder:
        intruder.executescript("DROP TRIGGER events_keep; UPDATE events SET type = 'nothing' WHERE seq = 1")
    assert journal.verify().seq == 1, "no hash covers that column"
    assert [record["seq"] for record in journal.newest(["operator_action"])] == [1]


def test_a_body_that_is_no_json_any_more_keeps_nobody_from_opening_the_journal(journal):
    journal.append(OperatorAction(who="alice", action="look"))
    journal.append(OperatorAction(who="alice", action="look"))
    with sqlite3.connect(journal.path) as intruder:
        intruder.executescript("DROP INDEX events_by_type; DROP TRIGGER events_keep; UPDATE events SET body = '{' WHERE seq = 1")
    with Journal(journal.path) as again:
        assert [record["seq"] for record in again.newest(["operator_action"])] == [2]


def test_a_journal_that_was_begun_without_the_index_by_kind_gets_it_when_it_is_opened(journal):
    journal.append(dropped())
    journal._connection.execute("DROP INDEX events_by_type")
    with Journal(journal.path) as again:
        indexes = {name for (name,) in again._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
        assert "events_by_type" in indexes
        assert again.verify() == journal.head()
