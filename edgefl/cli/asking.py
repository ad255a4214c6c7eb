"""The question before a command changes what cannot be undone by the same command."""

from __future__ import annotations

import sys

from edgefl.errors import EdgeflError, ExitCode


class NobodyToAsk(EdgeflError):
    """Without a terminal nobody can say yes."""

    exit_code = ExitCode.USAGE


def confirmed(what: str, *, command: str, as_json: bool) -> bool:
    """Whether the operator means it; who cannot be asked says so beforehand, with `--yes`. Raises NobodyToAsk."""
    if as_json or not sys.stdin.isatty():
        raise NobodyToAsk(f"{command} would {what}, and there is nobody to ask", hint="the same command with --yes")
    return input(f"This will {what}. Go on? [y/N] ").strip().lower() in ("y", "yes")
