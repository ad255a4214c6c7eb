"""What edgefl's services say on stderr: for a reader as text, for journald as fields; systemd.exec(5) tells who listens.

The fields are the Elastic Common Schema's, in one line, of which journald takes the priority by sd-daemon(3).
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

ECS = "9.3.0"
"""The version of the schema that the fields are of."""
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_LONGEST = 8192
"""Characters of a text that are written: journald cuts a line after 48 KiB, and what is cut is no JSON."""


class Fields(logging.Formatter):
    """A record as one line: its priority, then its fields as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; journald takes the priority off it."""
        said = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage()[:_LONGEST],
            "ecs.version": ECS,
        }
        if record.exc_info and record.exc_info[1] is not None:
            said["error.type"] = type(record.exc_info[1]).__name__
            said["error.stack_trace"] = self.formatException(record.exc_info)[-_LONGEST:]
        priority = next((number for least, number in _PRIORITIES if record.levelno >= least), 7)
        return f"<{priority}>{json.dumps(said, ensure_ascii=False)}"


def to_stderr() -> logging.Logger:
    """The logger `edgefl`, writing to stderr; for journald, what libraries log and warn of becomes fields, too.

    Call it before they are imported: some (Opacus) give the root logger a text of their own where it has no handler yet.
    """
    log = logging.getLogger("edgefl")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(Fields() if is_journald() else logging.Formatter("edgefl: %(message)s"))
        log.addHandler(handler)
        if is_journald():
            logging.getLogger().addHandler(handler)
            logging.captureWarnings(True)
    log.setLevel(logging.INFO)
    log.propagate = False
    return log


def is_journald() -> bool:
    """Whether stderr leads to journald, and not to a file or a terminal that somebody put in its place."""
    try:
        there = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
