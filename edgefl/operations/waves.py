"""In which order devices get a new version, and whether the federation is as well with it as before: functions of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from statistics import median

from edgefl.monitor.round import RoundRow
from edgefl.site.upgrade import Upgrade

SHARES = (0.1, 0.5, 1.0)
"""Of the devices, how many have the new version after each wave that follows the canaries."""


def waves(devices: Sequence[str], canaries: int) -> list[tuple[str, ...]]:
    """The devices in waves: the canaries, then up to 10 %, 50 % and all of them; no wave is empty."""
    left, found, done = list(devices), [], 0
    for goal in (canaries, *(ceil(share * len(devices)) for share in SHARES)):
        wave = left[: max(0, min(goal, len(devices)) - done)]
        if wave:
            found.append(tuple(wave))
            left, done = left[len(wave) :], done + len(wave)
    return found


def batch(devices: int, quorum: int, wave: int, *, is_training: bool) -> int:
    """How many devices of a wave may be away at once: while a run is going, as many as its quorum can spare, at least one."""
    return min(wave, max(1, devices - quorum)) if is_training else wave


def settled(rounds: Sequence[RoundRow], after: int) -> list[RoundRow]:
    """The rounds after number `after` that have ended, however."""
    return [row for row in rounds if row.number > after and row.state != "running"]


def ailments(before: Sequence[RoundRow], now: Sequence[RoundRow], upgraded: Sequence[str], margins: Upgrade) -> Iterator[str]:
    """What is worse in the rounds `now` than in those `before`; nothing while the federation is well.

    upgraded: the devices that have the new version. Those that took part before must do so in the last round that asked them.
    """
    for row in now:
        if row.state == "skipped":
            yield f"round {row.number} did not count: {row.reason or 'it gave no reason'}"
    asked = [row for row in now if row.state == "finished"]
    proven = {device for row in before for device in (*row.participants, *row.rejected)}
    for device in sorted(proven & set(upgraded)):
        last = next((row for row in reversed(asked) if device in row.devices), None)
        if last is not None and (why := _absence(last, device)):
            yield f"{device} took no part in round {last.number}: {why}"
    yield from _worse("loss", *([row.loss for row in rows] for rows in (before, asked)), margin=margins.loss_margin, unit="")
    yield from _worse("time", *([row.wall_s for row in rows] for rows in (before, asked)), margin=margins.time_margin, unit=" s")


def _absence(row: RoundRow, device: str) -> str:
    """Why a device that was asked gave nothing to a round; empty when it did, whatever the rule thought of it."""
    update = row.updates.get(device)
    if update is not None and (why := update.rejected or update.dropped):
        return why
    return "" if device in (*row.participants, *row.rejected) else "its update did not come"


def _worse(what: str, before: Sequence[float | None], now: Sequence[float | None], *, margin: float, unit: str) -> Iterator[str]:
    """A figure whose median is above what it was by more than the margin, a share; where it was not known, nothing is."""
    was, has = ([value for value in values if value is not None] for values in (before, now))
    if was and has and (limit := median(was) * (1 + margin)) < median(has):
        yield f"a round's {what} is {median(has):.3g}{unit}, and {median(was):.3g}{unit} before allows {limit:.3g}{unit} at most"
