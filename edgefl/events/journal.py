"""The append-only, hash-chained event log: one SQLite file in WAL mode, written by several processes.

The ServerApp and the monitor run as different users of one group. The directory must be setgid and group-writable
(`2770 root:edgefl-journal`); the files inherit the group from it, and the mode 0660 from the database file.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgefl.errors import EdgeflError
from edgefl.events import chain
from edgefl.events.chain import Head, JournalBroken
from edgefl.events.schema import Body, Event

__all__ = ["Head", "Journal", "JournalBroken", "JournalUnusable"]

_FORMAT = 1
_PAGE = 500
"""Events read at a time: bounds memory, and no read transaction lasts long enough to hold the WAL back."""
_SCHEMA = (
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL, version INTEGER NOT NULL,
        type TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL) STRICT""",
    "CREATE INDEX events_by_run ON events (run, seq)",
    """CREATE TRIGGER events_keep BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TRIGGER events_stay BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    # INSERT OR REPLACE deletes without firing DELETE triggers; an insert that is not the next one is refused instead.
    """CREATE TRIGGER events_follow BEFORE INSERT ON events
        WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
        BEGIN SELECT RAISE(ABORT, 'the journal has no gaps'); END""",
    f"PRAGMA user_version = {_FORMAT}",
)
_TYPE = "CASE WHEN json_valid(body) THEN json_extract(body, '$.type') END"
"""What an event is, from what its hash covers: the column `type` could be changed unseen."""
_BY_TYPE = f"CREATE INDEX IF NOT EXISTS events_by_type ON events ({_TYPE}, seq)"
"""Changes nothing that a reader sees, so that it is no other format: journals that were begun without it get it when opened."""
_LAST_SEQ = 2**63 - 1
_COLUMNS = "seq, at, run, round, version, body, previous, hash"


class JournalUnusable(EdgeflError):
    """The journal cannot be opened, read or written: permissions, a full disk, a lock that is never released."""


class Journal:
    """One process's hold on the journal; safe to share between threads, not across a fork.

    Appending is durable when it returns (`synchronous=FULL`): a power cut loses no event that was announced.
    busy_timeout_s: how long to wait for another writer before JournalUnusable.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 10.0) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.Lock()
        with self._told():
            _create_file(path)
            self._connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
            self._retried(lambda: self._connection.execute("PRAGMA journal_mode = WAL"))
            self._connection.execute("PRAGMA synchronous = FULL")
            self._retried(self._ensure_schema)
            self._retried(lambda: self._connection.execute(_BY_TYPE))

    def close(self) -> None:
        """Let go of the file; the journal stays."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, body: Body, *, run: str = "", round: int = 0) -> Event:  # noqa: A002 — the envelope's own word
        """Write one event and return it with its place in the chain. Raises JournalUnusable."""
        return self.append_all([body], run=run, round=round)[0]

    def append_all(self, bodies: Sequence[Body], *, run: str = "", round: int = 0) -> list[Event]:  # noqa: A002
        """Write several events in one transaction: all or none, one disk flush. Raises JournalUnusable."""
        texts = [chain.canonical(json.loads(body.model_dump_json())) for body in bodies]
        with self._lock, self._told(), self._transaction():
            head = self._head()
            events = []
            for body, text in zip(bodies, texts, strict=True):
                at = _stamp(datetime.now(UTC))
                seq, version = head.seq + 1, type(body).version
                envelope = {"seq": seq, "at": at, "version": version, "previous": head.hash}
                hash_ = chain.digest(seq=seq, at=at, run=run, round_=round, version=version, body=text, previous=head.hash)
                self._connection.execute(
                    f"INSERT INTO events ({_COLUMNS}, type) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 — constants
                    (seq, at, run, round, version, text, head.hash, hash_, getattr(body, "type", "")),
                )
                events.append(Event.model_validate({**envelope, "run": run, "round": round, "body": body, "hash": hash_}))
                head = Head(seq, hash_)
        return events

    def head(self) -> Head:
        """The last event's seq and hash; seq 0 when there is none. One index look-up."""
        with self._lock, self._told():
            return self._head()

    def records(
        self, after: int = 0, *, until: int | None = None, run: str | None = None, kind: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Events as JSON values, by seq, read page by page; what is appended meanwhile is included.

        after: exclusive; until: inclusive; run, kind: only this run's events, only those of this type.
        """
        while page := self.page(after, until=until, run=run, kind=kind):
            yield from page
            after = page[-1]["seq"]

    def page(
        self, after: int, *, until: int | None = None, run: str | None = None, kind: str | None = None, size: int = _PAGE
    ) -> list[dict[str, Any]]:
        """At most `size` records after `after`; empty when there are none."""
        given = {"seq > ?": after, "seq <= ?": until, "run = ?": run, "type = ?": kind}
        limits = {clause: value for clause, value in given.items() if value is not None}
        sql = f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(limits)}"  # noqa: S608 — constants
        with self._lock, self._told():
            rows = self._connection.execute(f"{sql} ORDER BY seq LIMIT ?", (*limits.values(), size)).fetchall()
        return [_record(row) for row in rows]

    def newest(self, kinds: Iterable[str], *, before: int = 0, size: int = _PAGE) -> list[dict[str, Any]]:
        """At most `size` records of these types, the newest first; `before` is exclusive, 0 means from the end.

        Reads `size` entries of the index for each type, however long the journal is.
        """
        asked = list(dict.fromkeys(kinds))
        if not asked:
            return []
        of_one = f"SELECT seq FROM (SELECT seq FROM events WHERE {_TYPE} = ? AND seq < ? ORDER BY seq DESC LIMIT ?)"  # noqa: S608
        found = " UNION ALL ".join([of_one] * len(asked))
        sql = f"SELECT {_COLUMNS} FROM events WHERE seq IN ({found}) ORDER BY seq DESC LIMIT ?"  # noqa: S608 — constants
        values = [value for kind in asked for value in (kind, before or _LAST_SEQ, size)]
        with self._lock, self._told():
            rows = self._connection.execute(sql, (*values, size)).fetchall()
        return [_record(row) for row in rows]

    def events(self, after: int = 0, *, until: int | None = None, run: str | None = None) -> Iterator[Event]:
        """As `records`, typed."""
        return (Event.model_validate(record) for record in self.records(after, until=until, run=run))

    def follow(self, after: int = 0, *, stop: threading.Event | None = None, poll_s: float = 0.2) -> Iterator[Event]:
        """Events after `after`, then each new one within `poll_s`, until `stop` is set. Blocks; holds no lock meanwhile."""
        stop = stop or threading.Event()
        while not stop.is_set():
            for event in self.events(after):
                yield event
                after = event.seq
            stop.wait(poll_s)

    def span(self, run: str) -> tuple[int, int]:
        """First and last seq of a run; (0, 0) when the journal has none of it."""
        with self._lock, self._told():
            first, last = self._connection.execute("SELECT min(seq), max(seq) FROM events WHERE run = ?", (run,)).fetchone()
        return first or 0, last or 0

    def verify(self, start: Head | None = None) -> Head:
        """Walk the chain from `start` and return its head. Raises JournalBroken with the first seq that does not verify."""
        head = start or Head()
        return chain.verify(self.records(head.seq), head, source=str(self.path))

    def _head(self) -> Head:
        row = self._connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(*row) if row else Head()

    def _ensure_schema(self) -> None:
        if self._format() == _FORMAT:
            return
        with self._transaction():
            if self._format() == 0:  # another process may have been first
                for statement in _SCHEMA:
                    self._connection.execute(statement)
        if (found := self._format()) != _FORMAT:
            raise JournalUnusable(f"{self.path} has format {found}, this edgefl knows {_FORMAT}", hint="edgefl up")

    def _format(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _retried(self, act: Callable[[], object]) -> None:
        """Do it once nobody holds the file: changing to WAL does not wait for locks by itself."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                act()
            except sqlite3.OperationalError as error:
                if (
                    error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                    or time.monotonic() > deadline
                ):
                    raise
                time.sleep(0.01)
            else:
                return

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's and the file system's errors as edgefl's."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise JournalBroken(0, f"SQLite cannot read it ({error})", source=str(self.path)) from error
            raise JournalUnusable(f"cannot use the journal {self.path}: {error}", hint=_hint(self.path)) from error
        except OSError as error:
            raise JournalUnusable(f"cannot use the journal {self.path}: {error.strerror}", hint=_hint(self.path)) from error


def _create_file(path: Path) -> None:
    """Made before SQLite sees it, since SQLite gives -wal and -shm the mode of the database, whatever the umask."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o660)
    except FileExistsError:
        return
    try:
        os.fchmod(handle, 0o660)
    finally:
        os.close(handle)


def _record(row: tuple[Any, ...]) -> dict[str, Any]:
    seq, at, run, round_, version, body, previous, hash_ = row
    try:
        said = json.loads(body)
    except ValueError:
        said = body  # no event any more: the chain will say so at this seq
    return {
        "seq": seq,
        "at": at,
        "run": run,
        "round": round_,
        "version": version,
        "body": said,
        "previous": previous,
        "hash": hash_,
    }


def _stamp(at: datetime) -> str:
    """As Pydantic writes a time in UTC, so that an event's own dump has the text that was hashed."""
    return at.isoformat().replace("+00:00", "Z")


def _hint(path: Path) -> str:
    return f"check the free space and that {path.parent} is `drwxrws---` with a group that this user is in"
