"""Which rules exist, and what each demands of the number of devices; no numpy, so that `edgefl check` can ask."""

from __future__ import annotations

from math import floor

from edgefl.errors import EdgeflError, ExitCode

RULES = ("guard", "mean", "median", "trimmed-mean", "krum", "multi-krum")


class RuleUnfit(EdgeflError):
    """The rule cannot promise anything for this many devices and attackers."""

    exit_code = ExitCode.SITE_INVALID


def attackers(byzantine: float, devices: int) -> int:
    """How many of these devices may be malicious; 0.3 of 10 is 3 whatever binary fractions say."""
    return floor(byzantine * devices + 1e-9)


def needed(rule: str, malicious: int) -> int:
    """The least number of updates with which a rule withstands so many malicious ones."""
    if rule in ("krum", "multi-krum"):
        return 2 * malicious + 3
    return 1 if rule == "mean" else 2 * malicious + 1


def check_rule(rule: str, byzantine: float, devices: int) -> None:
    """Raise RuleUnfit where the rule does not exist or its theorem does not hold for so many devices."""
    if rule not in RULES:
        raise RuleUnfit(f"there is no aggregation rule {rule!r}", hint="one of " + ", ".join(RULES))
    malicious = attackers(byzantine, devices)
    if devices < needed(rule, malicious):
        raise RuleUnfit(
            f"{rule} withstands {malicious} malicious of {devices} devices only with {needed(rule, malicious)} devices or more",
            hint="lower aggregation.byzantine, or use rule: guard",
        )
