"""Runs as files: what happened, whole and verifiable, to be looked at again anywhere.

A recording is NDJSON: a header, then one event a line in the chain's order. It holds the whole stretch of the journal from
the run's first event to its last, other events between them included, so its chain verifies without the journal. The operator's
copy of the whole journal (edgefl.events.copy) can be looked at in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events import chain
from edgefl.events.chain import Head, JournalBroken
from edgefl.events.copy import Copy, last_of
from edgefl.events.journal import Journal
from edgefl.events.schema import Event

State = TypeVar("State")
_RECORDING = "edgefl-journal"


class RecordingInvalid(EdgeflError):
    """The file is no recording of a journal, or there is nothing to record."""

    exit_code = ExitCode.USAGE


class Header(BaseModel):
    """The first line: which stretch follows, and where its chain begins and ends."""

    model_config = ConfigDict(frozen=True)

    format: str = _RECORDING
    version: int = 1
    run: str = ""
    """The recorded run; empty for the whole journal."""
    first: int
    last: int
    previous: str
    """Hash of the event before the first."""
    head: str
    """Hash of the last event: a recording that lost its tail does not verify."""


def fold(events: Iterable[Event], apply: Callable[[State, Event], State], state: State, *, until: int | None = None) -> State:
    """The state after the events, or after the one with seq `until`."""
    for event in events:
        if until is not None and event.seq > until:
            break
        state = apply(state, event)
    return state


def header(journal: Journal, run: str = "") -> Header:
    """Which stretch a recording of a run, or of the whole journal, has. Raises RecordingInvalid when there is nothing."""
    first, last = journal.span(run) if run else (1, journal.head().seq)
    if last == 0:
        raise RecordingInvalid(f"the journal has no events{f' of run {run}' if run else ''}", hint="edgefl rounds")
    previous = _at(journal, first - 1)["hash"] if first > 1 else chain.GENESIS
    return Header(run=run, first=first, last=last, previous=previous, head=_at(journal, last)["hash"])


def recording(journal: Journal, about: Header) -> Iterator[str]:
    """The recording's lines, read as they are asked for and verified on the way. Raises JournalBroken."""
    yield about.model_dump_json() + "\n"
    head = Head(about.first - 1, about.previous)
    for entry in journal.records(head.seq, until=about.last):
        head = chain.extend(head, entry, source=str(journal.path))
        yield chain.canonical(entry) + "\n"


def record(journal: Journal, path: Path, *, run: str = "") -> Header:
    """Write a run, or the whole journal, to `path` and return its header. Raises JournalBroken or RecordingInvalid."""
    about = header(journal, run)
    partial = path.with_name(f"{path.name}.part")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(recording(journal, about))
    partial.replace(path)
    return about


def header_of(path: Path) -> Header:
    """Which stretch of a journal a recording has, by its first line; all that it has, of an operator's copy of the journal.

    Raises RecordingInvalid, and JournalBroken for a copy that was cut.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
        about = _of_copy(path, first) if _is_event(first) else Header.model_validate_json(first)
    except (OSError, ValidationError) as error:
        hint = "edgefl rounds --record FILE makes one, edgefl audit log brings .edgefl/journal/journal.ndjson up to date"
        raise RecordingInvalid(f"{path} is not a recording of a journal", hint=hint) from error
    if (about.format, about.version) != (_RECORDING, 1):
        raise RecordingInvalid(f"{path} has format {about.format} {about.version}, this edgefl knows {_RECORDING} 1")
    return about


def replay(path: Path) -> Iterator[Event]:
    """The events of a recording, or of a copy of the journal, in order, each verified before it is given out.

    Raises RecordingInvalid, or JournalBroken with the first seq that does not verify, the missing tail included.
    """
    about = header_of(path)
    head = Head(about.first - 1, about.previous)
    with path.open("rb") as file:
        if _is_event(file.readline()):  # a copy has no header
            file.seek(0)
        for line in file:
            try:
                entry: dict[str, Any] = json.loads(line)
                head = chain.extend(head, entry, source=str(path))
                event = Event.model_validate(entry)
            except ValueError as error:
                raise JournalBroken(head.seq + 1, "not an event", source=str(path)) from error
            yield event
            if head == Head(about.last, about.head):
                return  # a copy goes on growing, or ends in half a line
    raise JournalBroken(head.seq + 1, f"the recording ends before its last event, {about.last}", source=str(path))


def _is_event(line: bytes) -> bool:
    try:
        Event.model_validate_json(line)
    except ValidationError:
        return False
    return True


def _of_copy(path: Path, first: bytes) -> Header:
    """What a copy of the journal has; of the operator's own it is known where it must end."""
    event = Event.model_validate_json(first)
    head = Copy(path.parent).head() if path.name == Copy.NAME else last_of(path)
    return Header(first=event.seq, last=head.seq, previous=event.previous, head=head.hash)


def _at(journal: Journal, seq: int) -> dict[str, Any]:
    return next(journal.records(seq - 1, until=seq))
