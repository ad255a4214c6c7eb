"""Whether a rule can promise anything for so many devices and attackers; no numpy."""

from __future__ import annotations

from edgefl.errors import EdgeflError, ExitCode
from edgefl.site.robustness import RULES, attackers, attackers_among, needed, outvoted, unfit

__all__ = ["RULES", "RuleUnfit", "attackers", "attackers_among", "check_rule", "needed"]


class RuleUnfit(EdgeflError):
    """The rule cannot promise anything for this many devices and attackers."""

    exit_code = ExitCode.SITE_INVALID


def check_rule(rule: str, byzantine: float, devices: int, mixing: str = "none") -> None:
    """Raise RuleUnfit where the rule does not exist, is no defence, or its theorem does not hold for so many devices."""
    if found := unfit(rule, byzantine, mixing) or outvoted(rule, byzantine, devices, devices):
        raise RuleUnfit(found[1], hint=found[2])
