"""Which aggregation rules exist, and what each demands of the number of devices; no numpy, so that `edgefl check` can ask."""

from __future__ import annotations

from math import floor
from typing import Literal, get_args

Rule = Literal[
    "guard",
    "nnm",
    "trimmed-mean",
    "median",
    "krum",
    "multi-krum",
    "geometric-median",
    "norm-clipping",
    "mean",
    "z-score",
]
RULES: tuple[str, ...] = get_args(Rule)
ALTERNATIVES = "guard, nnm, trimmed-mean or multi-krum"
NO_DEFENCE = {
    "geometric-median": "lets a backdoor through: a minority that pulls one way moves it a little in every round",
    "norm-clipping": "bounds how far one update moves the model, not in which direction: a backdoor within the bound stays",
    "z-score": "cannot fire: f colluders of n push their own z to at most sqrt((n - f) / f), 1.53 at 30 %",
}
"""Rules that are no defence by themselves, and why: they are refused where the site counts on one (byzantine above 0)."""
MIXABLE = ("trimmed-mean", "median", "krum", "multi-krum", "geometric-median")
"""Rules that `mixing: nearest` may go before; `guard` and `nnm` mix by themselves, the others gain nothing from it."""
MIXED_DEFENCE = ("geometric-median",)
"""Of NO_DEFENCE, those that are one after mixing (Allouah et al., 2023)."""


def attackers(byzantine: float, devices: int) -> int:
    """How many of these devices may be malicious; 0.3 of 10 is 3 whatever binary fractions say."""
    return floor(byzantine * devices + 1e-9)


def attackers_among(byzantine: float, updates: int, malformed: int = 0) -> int:
    """How many of these updates may be malicious, less than half of them.

    malformed: others that came beside them and were none. Whoever sent those was one of the attackers that the share allows for:
    to expect as many among the rest would cost honest devices with unlike records their say.
    """
    left = attackers(byzantine, updates + malformed) - malformed
    return max(0, min(left, (updates - 1) // 2))


def needed(rule: str, malicious: int) -> int:
    """The least number of updates with which a rule withstands so many malicious ones (Krum: Blanchard et al., 2017)."""
    if rule in ("krum", "multi-krum"):
        return 2 * malicious + 3
    return 1 if rule in ("mean", "norm-clipping", "z-score") else 2 * malicious + 1


def undefended(rule: str, byzantine: float, mixing: str) -> str:
    """Why the rule is no defence although the site counts on one; empty when it is fit."""
    if byzantine <= 0 or rule not in NO_DEFENCE or (mixing != "none" and rule in MIXED_DEFENCE):
        return ""
    return f"{rule} alone is no defence against a share of {byzantine:g} malicious devices: it {NO_DEFENCE[rule]}"


def remedy(rule: str) -> str:
    """What works in place of a rule that is no defence."""
    mixed = "mixing: nearest before it, " if rule in MIXED_DEFENCE else ""
    return f"{mixed}{'or ' if mixed else ''}rule: {ALTERNATIVES}; byzantine: 0 takes it without a defence"
