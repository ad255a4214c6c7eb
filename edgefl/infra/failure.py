"""What goes wrong with Terraform, as a user reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefl.errors import EdgeflError, ExitCode


class EngineMissing(EdgeflError):
    """No usable Terraform engine is on this machine."""

    exit_code = ExitCode.ENGINE_MISSING


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error or warning of Terraform's, with the resource that it is about where there is one."""

    severity: str
    summary: str
    detail: str = ""
    subject: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.subject, self.summary, self.detail) if part)


class TerraformFailed(EdgeflError):
    """A Terraform command failed. What it finished is in its state, so the same command goes on from there."""

    exit_code = ExitCode.TERRAFORM_FAILED

    def __init__(self, command: str, diagnostics: Sequence[Diagnostic], *, hint: str = "") -> None:
        self.diagnostics = tuple(diagnostics)
        said = [str(diagnostic) for diagnostic in self.diagnostics] or ["it said nothing"]
        rest = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        super().__init__(
            f"terraform {command} failed: {said[0]}{rest}",
            hint=hint or "correct the cause; the same command goes on from here",
        )

    def lines(self) -> list[str]:
        """Every error, not only the first."""
        shown = super().lines()
        return [shown[0], *(f"  {diagnostic}" for diagnostic in self.diagnostics[1:]), *shown[1:]]
