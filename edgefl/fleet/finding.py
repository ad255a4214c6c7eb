"""What a look at a host finds: one check, its verdict, and what to do where it is bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "bad", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one host: what was found, and what to do where it is bad."""

    host: str
    check: str
    verdict: Verdict
    found: str
    fix: str = ""
