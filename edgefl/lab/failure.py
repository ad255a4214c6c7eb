"""What goes wrong in the lab, as a user reads it."""

from __future__ import annotations

from edgefl.errors import EdgeflError, ExitCode


class LabFailed(EdgeflError):
    """A host, the lab's network or its image could not be brought to the state that was asked for."""

    exit_code = ExitCode.LAB_FAILED


class HostUnknown(LabFailed):
    """The lab has no host of that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"the lab has no host {name!r}", hint=f"one of: {', '.join(known)}" if known else "edgefl lab up 3")
