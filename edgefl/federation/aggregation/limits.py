"""Whether a rule can promise anything for so many devices and attackers; no numpy."""

from __future__ import annotations

from edgefl.errors import EdgeflError, ExitCode
from edgefl.site.robustness import MIXABLE, RULES, attackers, attackers_among, needed, remedy, undefended

__all__ = ["RULES", "RuleUnfit", "attackers", "attackers_among", "check_rule", "needed"]


class RuleUnfit(EdgeflError):
    """The rule cannot promise anything for this many devices and attackers."""

    exit_code = ExitCode.SITE_INVALID


def check_rule(rule: str, byzantine: float, devices: int, mixing: str = "none") -> None:
    """Raise RuleUnfit where the rule does not exist, is no defence, or its theorem does not hold for so many devices."""
    if rule not in RULES:
        raise RuleUnfit(f"there is no aggregation rule {rule!r}", hint="one of " + ", ".join(RULES))
    if mixing != "none" and rule not in MIXABLE:
        raise RuleUnfit(f"{rule} does not go with mixing", hint="mixing goes before " + ", ".join(MIXABLE))
    if why := undefended(rule, byzantine, mixing):
        raise RuleUnfit(why, hint=remedy(rule))
    malicious = attackers(byzantine, devices)
    if devices < needed(rule, malicious):
        raise RuleUnfit(
            f"{rule} withstands {malicious} malicious of {devices} devices only with {needed(rule, malicious)} devices or more",
            hint="lower aggregation.byzantine, or use rule: guard",
        )
