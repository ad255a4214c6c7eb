"""The monitor's answer to "how is it?": the federation's state and how true it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from edgefl.monitor.state import FederationState


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A state with its surroundings, at the coordinator's `now`.

    superlink, journal: what is wrong with them; empty while all is well. quorum: devices that a round needs.
    broken_seq: first event that does not verify; 0 while the chain holds.
    """

    state: FederationState
    now: datetime
    quorum: int
    version: str = ""
    superlink: str = ""
    journal: str = ""
    broken_seq: int = 0

    def to_json(self, *, updates: bool = True) -> bytes:
        """As the API sends it; `updates=False` leaves out each round's single updates."""
        about = {
            "now": self.now.isoformat(),
            "quorum": self.quorum,
            "version": self.version,
            "superlink": self.superlink,
            "journal": self.journal,
            "broken_seq": self.broken_seq,
        }
        return json.dumps(about)[:-1].encode() + b', "state": ' + self.state.to_json(updates=updates) + b"}"

    def as_dict(self, *, updates: bool = True) -> dict[str, Any]:
        """As JSON values."""
        return dict(json.loads(self.to_json(updates=updates)))

    @classmethod
    def from_json(cls, text: bytes | str) -> Status:
        """What `to_json` wrote; ValueError when it is something else."""
        return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[Status]:
    return TypeAdapter(Status)
