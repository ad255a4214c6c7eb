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

Misfit = tuple[Literal["rule", "mixing", "quorum"], str, str]
"""Which setting does not fit, why, and what would."""


def attackers(byzantine: float, devices: int) -> int:
    """How many of these devices may be malicious; 0.3 of 10 is 3 whatever binary fractions say."""
    return floor(byzantine * devices + 1e-9)


def attackers_among(byzantine: float, updates: int, known: int = 0) -> int:
    """How many of these updates may be malicious, less than half of them.

    known: malicious devices beside them, each one of the attackers that the share allows for: to expect as many among the rest
    would cost honest devices with unlike records their say.
    """
    left = attackers(byzantine, updates + known) - known
    return max(0, min(left, (updates - 1) // 2))


def needed(rule: str, malicious: int) -> int:
    """The least number of updates with which a rule withstands so many malicious ones (Krum: Blanchard et al., 2017)."""
    if rule in ("krum", "multi-krum"):
        return 2 * malicious + 3
    return 1 if rule in ("mean", "norm-clipping", "z-score") else 2 * malicious + 1


def unfit(rule: str, byzantine: float, mixing: str) -> Misfit | None:
    """Why the rule cannot be what the site wants of it, however many devices there are; None when it is fit."""
    if rule not in RULES:
        return "rule", f"there is no aggregation rule {rule!r}", f"one of {', '.join(RULES)}"
    if mixing != "none" and rule not in MIXABLE:
        return "mixing", f"{rule} does not go with mixing", f"mixing goes before {', '.join(MIXABLE)}"
    if byzantine <= 0 or rule not in NO_DEFENCE or (mixing != "none" and rule in MIXED_DEFENCE):
        return None
    what = f"{rule} alone is no defence against a share of {byzantine:g} malicious devices: it {NO_DEFENCE[rule]}"
    mixed = "mixing: nearest before it, or " if rule in MIXED_DEFENCE else ""
    return "rule", what, f"{mixed}rule: {ALTERNATIVES}; byzantine: 0 takes it without a defence"


def outvoted(rule: str, byzantine: float, asked: int, quorum: int) -> Misfit | None:
    """Why a round that asks so many devices, and counts with the quorum, cannot outvote the malicious among them."""
    malicious = attackers(byzantine, asked)
    needs = needed(rule, malicious)
    if asked < needs:
        what = f"{rule} against {malicious} malicious of {asked} devices needs at least {needs} devices"
        return "rule", what, "add devices, lower aggregation.byzantine, or take guard"
    if quorum < needs:
        what = f"a round counts with {quorum} of {asked} updates, but {rule} against {malicious} malicious devices needs {needs}"
        return "quorum", what, f"quorum: {-(-100 * needs // asked) / 100:g}, or a lower aggregation.byzantine"
    return None
