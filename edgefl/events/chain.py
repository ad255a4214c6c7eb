"""The hash chain: each event's hash covers the event and the hash before it, so no past event can change unseen.

A record is an event as JSON values (`Event.model_dump_json`, a line of a stream or of an export). Hashes are taken over
records and not over `Event`, which drops the fields that a newer version wrote: those are covered too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgefl.errors import EdgeflError, ExitCode

GENESIS = "0" * 64
"""`previous` of the first event."""

Record = Mapping[str, Any]


class JournalBroken(EdgeflError):
    """The chain does not verify: something was changed, removed, inserted or reordered at `seq`."""

    exit_code = ExitCode.JOURNAL_BROKEN

    def __init__(self, seq: int, why: str, *, source: str = "the journal") -> None:
        super().__init__(
            f"{source} is broken at seq {seq}: {why}",
            hint="keep the file as evidence; everything before that seq still verifies",
        )
        self.seq = seq
        self.why = why


@dataclass(frozen=True, slots=True)
class Head:
    """The last event of a verified chain: what a witness has to remember to notice a later change."""

    seq: int = 0
    hash: str = GENESIS


def canonical(value: object) -> str:
    """JSON with sorted keys, no spaces, no escapes beyond what JSON demands: one text for one value.

    Raises ValueError for a number that is not finite: JSON has none.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(*, seq: int, at: str, run: str, round_: int, version: int, body: str, previous: str) -> str:
    """Hex SHA-256 of an event's canonical JSON without its `hash`; `body` is already canonical."""
    envelope = (
        f'{{"at":{canonical(at)},"body":{body},"previous":{canonical(previous)},"round":{round_:d},'
        f'"run":{canonical(run)},"seq":{seq:d},"version":{version:d}}}'
    )
    return hashlib.sha256(envelope.encode("utf-8", "surrogatepass")).hexdigest()


def digest_of(record: Record) -> str:
    """The hash that the record should have; KeyError, TypeError or ValueError when it is none."""
    return digest(
        seq=record["seq"],
        at=record["at"],
        run=record["run"],
        round_=record["round"],
        version=record["version"],
        body=canonical(record["body"]),
        previous=record["previous"],
    )


def extend(head: Head, record: Record, *, source: str = "the journal") -> Head:
    """The head after the record. Raises JournalBroken when the record is not what comes next."""
    expected = head.seq + 1
    try:
        hash_, seq, computed = record["hash"], record["seq"], digest_of(record)
    except (KeyError, TypeError, ValueError) as error:
        raise JournalBroken(expected, f"not an event ({error})", source=source) from error
    if seq != expected:
        raise JournalBroken(expected, f"the next event says it is {seq}", source=source)
    if record["previous"] != head.hash:
        raise JournalBroken(seq, "it does not follow from the event before it", source=source)
    if hash_ != computed:
        raise JournalBroken(seq, "its content does not match its hash", source=source)
    return Head(seq, hash_)


def verify(records: Iterable[Record], start: Head | None = None, *, source: str = "the journal") -> Head:
    """Walk the chain from `start` (default: the beginning) and return its head.

    Raises JournalBroken with the first seq that does not verify. A missing tail cannot be seen from the chain alone:
    compare the head with one that was remembered elsewhere.
    """
    head = start or Head()
    for record in records:
        head = extend(head, record, source=source)
    return head


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a chain has been checked: it holds from the event `first` to `head`; the last event is `last`."""

    first: int
    head: Head
    last: int


def recognise(head: Head, seen: Mapping[int, str], *, source: str = "the journal") -> None:
    """Raises JournalBroken when the event at the head is not the one that a witness saw there (`seen`: hashes by seq).

    A journal that was written anew as a whole holds in itself; only who has seen the old one can tell.
    """
    if seen.get(head.seq, head.hash) != head.hash:
        raise JournalBroken(head.seq, "it is another event than was shown before", source=source)


def recognise_end(head: Head, seen: Mapping[int, str], *, source: str = "the journal") -> None:
    """Raises JournalBroken when a witness has seen events after the head: the journal has lost its tail."""
    if (last := max(seen, default=0)) > head.seq:
        raise JournalBroken(head.seq + 1, f"it ends here, and event {last} was shown before", source=source)
