"""The error that names everything wrong with a site.yaml at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgefl.errors import EdgeflError, ExitCode, Where


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: the line, what is wrong with it, and the nearest right thing."""

    where: Where
    what: str
    hint: str = ""

    def lines(self) -> list[str]:
        """The finding as a user reads it: the line, below it what is wrong."""
        shown = [f"  {self.where}", f"      {self.what}"]
        return [*shown, f"      → {self.hint}"] if self.hint else shown


class SiteInvalid(EdgeflError):
    """site.yaml cannot be used; nothing was touched."""

    exit_code = ExitCode.SITE_INVALID

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(sorted(findings, key=lambda finding: (str(finding.where.path), finding.where.line)))
        path, count = self.findings[0].where.path, len(self.findings)
        super().__init__(
            f"{path} has {'a mistake' if count == 1 else f'{count} mistakes'}; nothing was touched",
            hint=f"correct {'it' if count == 1 else 'them'}, then: edgefl check --site {path.parent}",
            where=tuple(finding.where for finding in self.findings),
        )

    def lines(self) -> list[str]:
        """Every finding under its line of the file."""
        found = [line for finding in self.findings for line in finding.lines()]
        return [f"✖ {self.what}", *found, f"  next: {self.hint}"]

    def as_dict(self) -> dict[str, object]:
        """The error as `--json` prints it, each finding with its place."""
        findings = [
            {"file": str(f.where.path), "line": f.where.line, "text": f.where.text, "what": f.what, "next": f.hint}
            for f in self.findings
        ]
        return {**super().as_dict(), "findings": findings}
