"""Flower's own lines, and those of the HTTP servers that it starts, as edgefl's services say theirs."""

from __future__ import annotations

import logging

from edgefl.voice import Fields, is_journald


def with_flower() -> None:
    """Have Flower's own lines reach journald as edgefl's do: with their level, without colours, and once."""
    if is_journald():
        import flwr.app  # noqa: F401 — makes the handler of its logger, whose own format no formatter changes

        flower = logging.getLogger("flwr")
        flower.propagate = False
        for handler in flower.handlers:
            handler.format = Fields().format  # type: ignore[method-assign]
        _with_servers()


def _with_servers() -> None:
    """The same for uvicorn, which gives its loggers handlers anew with each server; which lines it writes, stays as it was."""
    from uvicorn import Config

    configure = Config.configure_logging

    def configure_logging(self: Config) -> None:
        configure(self)
        for name in ("uvicorn", "uvicorn.access"):
            for handler in logging.getLogger(name).handlers:
                handler.setFormatter(Fields())

    Config.configure_logging = configure_logging  # type: ignore[method-assign]
