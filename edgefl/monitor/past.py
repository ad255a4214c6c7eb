"""What happened before: events of some kinds, a page at a time, the newest first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefl.events import chain
from edgefl.events.schema import Event

MOST_PAST = 500
"""Events on a page."""
MOST_KINDS = 50


@dataclass(frozen=True, slots=True)
class Past:
    """A page of past events, the newest first.

    broken: seqs of those that do not match their own hash; what they say is not shown as a fact.
    before: where the next page goes on; 0 when there are no older ones.
    """

    events: tuple[Event, ...] = ()
    broken: tuple[int, ...] = ()
    before: int = 0

    @classmethod
    def from_json(cls, text: bytes | str) -> Past:
        """The API's answer; ValueError, KeyError or TypeError when it is something else."""
        said: dict[str, Any] = json.loads(text)
        events, broken = [], []
        for record in said["events"]:
            event = _trusted(record)
            if event is None:
                broken.append(int(record["seq"]))
            else:
                events.append(event)
        return cls(tuple(events), tuple(broken), int(said["before"]))


def _trusted(record: Mapping[str, Any]) -> Event | None:
    try:
        return Event.model_validate(record) if chain.digest_of(record) == record["hash"] else None
    except (KeyError, TypeError, ValueError):
        return None
