"""The operator's own copy of the journal: a coordinator that writes its history anew cannot change what was read before.

`journal.ndjson` has the records as they came, one a line; `seen.json` names the last of them. Whoever keeps that line elsewhere
too (`edgefl audit log` prints it) can show that the copy itself was not cut.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgefl.errors import EdgeflError
from edgefl.events import chain
from edgefl.events.chain import Head, JournalBroken
from edgefl.events.schema import Event

_BLOCK = 1 << 16


class CopyUnusable(EdgeflError):
    """The copy cannot be read or written."""


class HistoryRewritten(JournalBroken):
    """The coordinator's journal is not the one that the operator has read before."""

    def __init__(self, seq: int, why: str, kept: Path) -> None:
        super().__init__(seq, why, source="the coordinator's journal")
        self.hint = f"{kept} has what it said before: keep it; if you replaced the coordinator yourself, move it away"


class Copy:
    """The copy in a directory; it may not be there yet."""

    NAME = "journal.ndjson"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / self.NAME
        self._seen = directory / "seen.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """One process extends the copy at a time; the kernel lets go when it dies."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CopyUnusable(f"{self.directory} cannot be written: {error.strerror}", hint="check its owner") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def seen(self) -> Head:
        """The last event that was ever in the copy. Raises CopyUnusable."""
        try:
            said = json.loads(self._seen.read_text())
            return Head(int(said["seq"]), str(said["hash"]))
        except FileNotFoundError:
            return Head()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CopyUnusable(f"{self._seen} cannot be read: {error}", hint="edgefl audit log --verify --offline") from error

    def head(self) -> Head:
        """The copy's last event; what a crash left of a line counts for nothing. Raises JournalBroken when the copy was cut."""
        seen = self.seen()
        head = last_of(self.path, expected=seen.seq)
        chain.recognise_end(head, {seen.seq: seen.hash}, source=str(self.path))
        chain.recognise(head, {seen.seq: seen.hash}, source=str(self.path))
        return head

    def follow(self, head: Head, records: Iterable[Mapping[str, Any]]) -> Head:
        """Check records that come after `head`, the copy's last, and keep them; the new last. Raises HistoryRewritten.

        The first of them may be that last one again: then it must be the same.
        """
        lines: list[str] = []
        for record in records:
            if head.seq and record.get("seq") == head.seq and not lines:
                self._recognise(record, head)
                continue
            try:
                head = chain.extend(head, record)
            except JournalBroken as broken:
                raise HistoryRewritten(broken.seq, broken.why, self.path) from broken
            lines.append(chain.canonical(record) + "\n")
        if lines:
            self._append("".join(lines), head)
        return head

    def _recognise(self, record: Mapping[str, Any], head: Head) -> None:
        try:
            same = chain.digest_of(record) == record["hash"] == head.hash
        except (KeyError, TypeError, ValueError):
            same = False
        if not same:
            raise HistoryRewritten(head.seq, "it is another event than was shown before", self.path)

    def cut_short(self, seq: int) -> HistoryRewritten:
        """What to raise when the coordinator's journal ends at `seq`, before the copy does."""
        return HistoryRewritten(seq + 1, f"it ends here, and event {self.seen().seq} was shown before", self.path)

    def _append(self, text: str, head: Head) -> None:
        try:
            whole = _whole_length(self.path)
            with self.path.open("r+b" if self.path.exists() else "xb") as file:
                self.path.chmod(0o600)
                file.truncate(whole)
                file.seek(whole)
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            fresh = self._seen.with_suffix(".new")
            fresh.write_text(json.dumps({"seq": head.seq, "hash": head.hash}) + "\n")
            fresh.replace(self._seen)
        except OSError as error:
            raise CopyUnusable(f"{self.path} cannot be written: {error.strerror}", hint="check the free space") from error

    def events(self) -> Iterator[Event]:
        """Every event of the copy, each verified before it is given out. JournalBroken: also for a tail that is missing."""
        seen, head = self.seen(), Head()
        for head, event in read(self.path):
            chain.recognise(head, {seen.seq: seen.hash}, source=str(self.path))
            yield event
        chain.recognise_end(head, {seen.seq: seen.hash}, source=str(self.path))

    def hashes(self) -> dict[int, str]:
        """The hash of every event of the copy, by seq."""
        return {head.seq: head.hash for head, _ in read(self.path)}


def last_of(path: Path, *, expected: int = 0) -> Head:
    """The last event of a file of records. Raises JournalBroken, naming the seq that was expected, when it is none."""
    last = _last_line(path)
    if not last:
        return Head()
    try:
        record = json.loads(last)
        return Head(int(record["seq"]), str(record["hash"]))
    except (ValueError, KeyError, TypeError) as error:
        raise JournalBroken(expected, "not an event", source=str(path)) from error


def read(path: Path) -> Iterator[tuple[Head, Event]]:
    """The events of a file of records, from the first on, verified. Raises JournalBroken; a file that is not there has none."""
    head = Head()
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return  # a crash in the middle of a line: it was never counted as seen
                try:
                    record = json.loads(line)
                    head = chain.extend(head, record, source=str(path))
                    event = Event.model_validate(record)
                except (ValueError, AttributeError) as error:
                    raise JournalBroken(head.seq + 1, "not an event", source=str(path)) from error
                yield head, event
    except FileNotFoundError:
        return


def _whole_length(path: Path) -> int:
    """How many bytes of the file are whole lines."""
    try:
        with path.open("rb") as file:
            at = file.seek(0, os.SEEK_END)
            while at > 0:
                start = max(0, at - _BLOCK)
                file.seek(start)
                if (found := file.read(at - start).rfind(b"\n")) >= 0:
                    return start + found + 1
                at = start
    except FileNotFoundError:
        pass
    return 0


def _last_line(path: Path) -> bytes:
    """The file's last whole line; empty when there is none."""
    end = _whole_length(path)
    if end == 0:
        return b""
    with path.open("rb") as file:
        line = b""
        at = end - 1
        while at > 0:
            start = max(0, at - _BLOCK)
            file.seek(start)
            part = file.read(at - start)
            found = part.rfind(b"\n")
            line = part[found + 1 :] + line
            if found >= 0:
                break
            at = start
        return line
