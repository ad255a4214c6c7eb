"""Exit codes, and the one shape that every error takes before a user sees it.

An error says what happened, where, why, and what to do next. Third-party exceptions become one of these at the boundary
where they occur, with the cause kept (`raise … from`). The codes are documented in docs/exit-codes.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What a command's exit status means; numbers are never reused."""

    OK = 0
    FAILED = 1
    """Something broke that has no number of its own."""
    USAGE = 2
    """The command line is wrong."""

    SITE_INVALID = 10
    TASK_INVALID = 11
    LOCKED = 12
    """Another operation holds the site."""
    NEEDS_ROOT = 13
    """The lab needs root, or a part of the machine that is missing."""
    NOT_PROVISIONED = 14
    """There is no working state yet; run `edgefl up`."""

    ENGINE_MISSING = 20
    UNREACHABLE = 21
    TERRAFORM_FAILED = 22
    LAB_FAILED = 23
    PREFLIGHT_FAILED = 30
    ANSIBLE_FAILED = 31
    BUNDLE_INVALID = 32
    PKI_FAILED = 33
    ROLLED_BACK = 34
    """A new version was not healthy, and hosts run the one before it again."""
    NOT_ISOLATED = 40
    """A probe reached what it must not reach, or could not reach what it must."""
    QUORUM = 50
    """Fewer devices are there than the run needs."""
    BUDGET = 51
    """The privacy budget does not allow what was asked."""
    RUN_FAILED = 52
    AUDIT_FAILED = 53
    """`edgefl audit`: more leaks than is claimed."""
    MONITOR_UNREACHABLE = 60
    JOURNAL_BROKEN = 61
    """The journal's hash chain does not verify."""
    EXPORT_FAILED = 62
    """A collector or a tracking server does not answer, or refuses what it was sent."""
    DEGRADED = 70
    """`edgefl status`: the site stands, but something in it needs attention."""
    CANCELLED = 130
    NO_READER = 141


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file that a user can open."""

    path: Path
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" + (f"   {self.text.strip()}" if self.text else "")


class EdgeflError(Exception):
    """Base of every error that edgefl shows.

    what: one sentence, what happened and why.
    hint: what to do next, best a command.
    where: the lines of the user's files that caused it.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, what: str, *, hint: str = "", where: tuple[Where, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.where = where

    def lines(self) -> list[str]:
        """The error as a user reads it, without colour."""
        shown = [f"✖ {self.what}", *(f"  {place}" for place in self.where)]
        return [*shown, f"  next: {self.hint}"] if self.hint else shown

    def as_dict(self) -> dict[str, object]:
        """The error as `--json` prints it."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": [{"file": str(w.path), "line": w.line, "text": w.text} for w in self.where],
            "next": self.hint,
            "exit_code": int(self.exit_code),
        }


class Locked(EdgeflError):
    """Another operation works on the same site."""

    exit_code = ExitCode.LOCKED


class NeedsRoot(EdgeflError):
    """The lab cannot stand here: root, or a part of the machine, is missing."""

    exit_code = ExitCode.NEEDS_ROOT


class NotProvisioned(EdgeflError):
    """The site has no working state that the command could use."""

    exit_code = ExitCode.NOT_PROVISIONED


class Cancelled(EdgeflError):
    """The operator stopped the operation; the same command goes on from there."""

    exit_code = ExitCode.CANCELLED
