"""Flower's own lines, as edgefl's services say theirs."""

from __future__ import annotations

import logging

from edgefl.voice import Fields, is_journald


def with_flower() -> None:
    """Have Flower's own lines reach journald as edgefl's do: with their level, and without colours."""
    if is_journald():
        import flwr.app  # noqa: F401 — makes the handler of its logger, whose own format no formatter changes

        for handler in logging.getLogger("flwr").handlers:
            handler.format = Fields().format  # type: ignore[method-assign]
