"""From flags about updates to a verdict about a device, with hysteresis: a pure function of what the rounds so far said.

    trusted ──flagged repeatedly──► suspect ──gravely flagged most of the time──► quarantined
       ▲                               │ ▲                                            │ its term is over
       └───────rounds without a flag───┘ └──rounds without a flag── probation ◄───────┘
                                                    └──gravely flagged repeatedly──► quarantined, for twice as long

Gravely: for what no honest device sends, whatever its records are (what is no update, a copy, an absurd length). An odd direction
makes a device suspect, and each such update is kept out of its round, which is what protects the model; but records unlike the
others' give odd directions too, so it never costs a device its place. Whoever is quarantined takes no part in rounds; the
operator may pardon.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from edgefl.events.schema import Conduct, DeviceJudged
from edgefl.federation.aggregation.reputation import Reputation, Standing
from edgefl.site.model import Policy

LONGEST = 6
"""Doublings of the quarantine's term at most."""
PARDONED = "pardoned by the operator"


def judge(
    history: Reputation, took_part: Sequence[str], members: Collection[str], policy: Policy, most: int
) -> tuple[Reputation, list[DeviceJudged]]:
    """The devices' standings after a round, and what changed. history: this round included.

    took_part: who gave an update, or something that was none. members: the federation's devices. most: so many of them may be
    out at once; where more would have to go, the worst do.
    """
    found: list[DeviceJudged] = []
    standings = dict(history.standings)
    for device, standing in history.standings.items():
        if device in members and standing.conduct == "quarantined":
            standings[device] = left = replace(standing, out=standing.out - 1)
            if left.out <= 0:
                standings[device] = replace(left, conduct="probation", out=0, recent="")
                found.append(_changed(device, left, standings[device], "its quarantine is over", policy))
    room = most - sum(standings[device].out > 0 for device in members if device in standings)
    worst_first = sorted(took_part, key=lambda device: (-history.of(device).evidence, device))
    for device in worst_first:
        standing = history.of(device)
        if (next_ := _next(standing, policy)) is None:
            continue
        conduct, reason = next_
        after = replace(standing, conduct=conduct)
        if conduct == "quarantined":
            if room <= 0:
                continue
            room -= 1
            out = policy.quarantine_rounds * 2 ** min(standing.terms, LONGEST)
            after = replace(after, terms=standing.terms + 1, out=out)
            reason = f"{reason}: left out of {out} rounds"
        standings[device] = after
        found.append(_changed(device, standing, after, reason, policy))
    return Reputation(standings), found


def pardon(history: Reputation, devices: Collection[str], policy: Policy) -> tuple[Reputation, list[DeviceJudged]]:
    """The operator's word: these devices are as new, and nothing that was said of them counts any more."""
    found = [
        _changed(device, history.of(device), Standing(), PARDONED, policy)
        for device in devices
        if history.of(device) != Standing()
    ]
    return Reputation({**history.standings, **{device: Standing() for device in devices}}), found


def _next(standing: Standing, policy: Policy) -> tuple[Conduct, str] | None:
    """What a device that took part becomes, and why; None when it stays what it is."""
    window = standing.recent[-policy.window :]
    flags, grave = len(window) - window.count("0"), window.count("3")
    said = f"flagged in {flags} of its last {len(window)} rounds"
    sent = f"sent what no honest device sends in {grave} of its last {len(window)} rounds"
    if standing.recent.endswith("0"):
        clean = policy.clear_after
        if standing.conduct in ("suspect", "probation") and standing.recent[-clean:] == "0" * clean:
            return "trusted", f"{clean} rounds without a flag"
        return None  # a round without evidence condemns nobody
    if standing.conduct == "probation" and grave >= policy.suspect_after and policy.quarantine_after is not None:
        return "quarantined", f"{sent}, on probation"
    if standing.conduct == "suspect" and policy.quarantine_after is not None and grave >= policy.quarantine_after:
        return "quarantined", sent
    if standing.conduct == "trusted" and flags >= policy.suspect_after:
        return "suspect", said
    return None


def _changed(device: str, before: Standing, after: Standing, reason: str, policy: Policy) -> DeviceJudged:
    window = before.recent[-policy.window :]
    return DeviceJudged(
        device=device,
        before=before.conduct,
        conduct=after.conduct,
        reason=reason,
        flags=len(window) - window.count("0"),
        window=len(window),
        rounds_out=after.out,
    )
