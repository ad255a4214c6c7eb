"""What goes wrong between the operator and the monitor."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from edgefl.errors import EdgeflError, ExitCode


class MonitorUnreachable(EdgeflError):
    """The coordinator's monitor does not answer, or does not let this operator in."""

    exit_code = ExitCode.MONITOR_UNREACHABLE


class Refused(EdgeflError):
    """The monitor understood the request and says no; `http_status` is how it says so on the wire."""

    http_status: ClassVar[int] = 400

    @classmethod
    def read(cls, said: dict[str, Any]) -> Refused:
        """The refusal as `as_dict` wrote it on the coordinator, with its exit code."""
        error = cls(str(said.get("what", "the monitor refused")), hint=str(said.get("next", "")))
        try:
            error.exit_code = ExitCode(int(said.get("exit_code", ExitCode.FAILED)))
        except (TypeError, ValueError):
            error.exit_code = ExitCode.FAILED
        return error


class NoIdentity(Refused):
    """The request did not come through the gate, which alone says who asks."""

    http_status = 401


class RoleRefused(Refused):
    """The certificate's role does not open this path."""

    http_status = 403


class RunImpossible(Refused):
    """A run cannot be as it was asked for."""

    exit_code = ExitCode.USAGE


class RunActive(Refused):
    """One run at a time."""

    http_status = 409
    exit_code = ExitCode.LOCKED


class QuorumMissing(Refused):
    """Fewer devices are online than the run needs."""

    http_status = 409
    exit_code = ExitCode.QUORUM


class AheadOfJournal(Refused):
    """The reader has seen events that this journal does not have: it was replaced."""

    http_status = 409
    exit_code = ExitCode.JOURNAL_BROKEN


class Busy(Refused):
    """The caller has said enough for now. again_s: when to come again, in seconds; `Retry-After` says so."""

    http_status = 429

    def __init__(self, what: str, *, again_s: float = 1.0, hint: str = "") -> None:
        super().__init__(what, hint=hint or f"again in {math.ceil(again_s)} s")
        self.again_s = again_s


class TooLarge(Refused):
    """More than is taken at once."""

    http_status = 413


class Unavailable(Refused):
    """A part of the coordinator that the request needs does not work now."""

    http_status = 503
