"""What edgefl's services say on stderr: for a reader as text, for journald as fields; systemd.exec(5) tells who listens."""

from __future__ import annotations

import logging
import os

from edgefl.federation.fields import Fields


def to_stderr() -> logging.Logger:
    """The logger `edgefl`, writing to stderr; the root logger stays untouched, for Flower would speak through it twice."""
    log = logging.getLogger("edgefl")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(Fields() if is_journald() else logging.Formatter("edgefl: %(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return log


def with_flower() -> None:
    """Have Flower's own lines reach journald as edgefl's do: with their level, and without colours."""
    if is_journald():
        import flwr.app  # noqa: F401 — makes the handler of its logger, whose own format no formatter changes

        for handler in logging.getLogger("flwr").handlers:
            handler.format = Fields().format  # type: ignore[method-assign]


def is_journald() -> bool:
    """Whether stderr leads to journald, and not to a file or a terminal that somebody put in its place."""
    try:
        there = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
