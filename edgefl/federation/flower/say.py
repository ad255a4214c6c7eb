"""What edgefl's own half of a service says: lines on stderr, which systemd keeps. Flower's half writes there by itself."""

from __future__ import annotations

import logging


def to_stderr() -> logging.Logger:
    """The logger `edgefl`, writing to stderr; the root logger stays untouched, for Flower would speak through it twice."""
    log = logging.getLogger("edgefl")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("edgefl: %(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return log
