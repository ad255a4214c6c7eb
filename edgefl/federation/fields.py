"""A log record as fields of the Elastic Common Schema, in one line for journald, which takes its priority by sd-daemon(3)."""

from __future__ import annotations

import json
import logging
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
