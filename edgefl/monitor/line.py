"""A line of the event stream: a record of the journal, or a heartbeat."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

HEARTBEAT_S = 2.0
"""How long a stream is silent at most; one that is silent for several times this long is dead, and readers reconnect."""


def heartbeat(seq: int, at: datetime) -> str:
    """The line that says: still here, the journal ends at `seq`."""
    return json.dumps({"heartbeat": seq, "at": at.isoformat()}) + "\n"


def read_line(line: str) -> dict[str, Any] | None:
    """A record, or None for a heartbeat. ValueError when it is neither."""
    said = json.loads(line)
    if not isinstance(said, dict):
        raise ValueError(f"not an object: {line[:80]}")
    return None if "heartbeat" in said else said
