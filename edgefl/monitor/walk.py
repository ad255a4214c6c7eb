"""The journal's chain, checked from its first event as the monitor's stream brings it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgefl.events import chain
from edgefl.events.chain import Head, JournalBroken, Walked
from edgefl.monitor.errors import MonitorUnreachable

_SOURCE = "the coordinator's journal"
_AT_ONCE = 500


class Walk:
    """Gathers lines where they arrive, and checks them (`check`, `end`) where nobody waits: hashing a page takes a while.

    seen: hashes, by seq, of events that were shown before.
    """

    def __init__(self, seen: Mapping[int, str]) -> None:
        self._seen = seen
        self._lines: list[str] = []
        self._head = Head()
        self._last = 0

    def hear(self, line: str) -> bool:
        """Take a line; whether there are enough of them to be checked."""
        self._lines.append(line)
        return len(self._lines) >= _AT_ONCE

    def check(self) -> Walked:
        """Check what was gathered. Raises JournalBroken with the first seq that does not verify."""
        lines, self._lines = self._lines, []
        for line in lines:
            record = _record(line, self._head)
            if "heartbeat" in record:
                self._last = max(self._last, int(record["heartbeat"]))
                continue
            self._head = chain.extend(self._head, record, source=_SOURCE)
            chain.recognise(self._head, self._seen, source=_SOURCE)
        self._last = max(self._last, self._head.seq)
        return Walked(1, self._head, self._last)

    def end(self) -> Walked:
        """Check the rest, and that it is the end. Raises MonitorUnreachable when the stream was cut short."""
        walked = self.check()
        if walked.head.seq < walked.last:
            raise MonitorUnreachable(f"the monitor ended the stream at {walked.head.seq} of {walked.last}", hint="try again")
        chain.recognise_end(walked.head, self._seen, source=_SOURCE)
        return walked


def _record(line: str, head: Head) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError as error:
        raise JournalBroken(head.seq + 1, "not an event", source=_SOURCE) from error
    if not isinstance(said, dict):
        raise JournalBroken(head.seq + 1, "not an event", source=_SOURCE)
    return said
