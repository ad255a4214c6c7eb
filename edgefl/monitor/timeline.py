"""A round as stretches of time: the coordinator's stages, and each device's part between them.

What was measured is lengths, and one end of each: stages before the devices' work are laid down from the round's start, those
after it back from its end, and a device's part back from the moment in which its reply was filed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite

from edgefl.monitor.round import RoundRow, UpdateRow

BEFORE, AFTER = ("select", "send"), ("score", "aggregate", "evaluate")
"""The coordinator's stages before the devices' work and after it. `select`: wait for the devices, and choose among them."""
_LONGEST_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a stretch: `start` (a device picks its task up), `train` or `upload`."""

    name: str
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True, slots=True)
class Stretch(Part):
    """A stage of the coordinator's, or all that a device did in the round.

    name: the stage, or the device's name. update: the device's row; None for a stage. parts: empty for a stage, and for a device
    that sent no update; begin and end are then from when it was asked until it was given up.
    """

    update: UpdateRow | None = None
    parts: tuple[Part, ...] = ()


def timeline(row: RoundRow, now: datetime | None = None) -> list[Stretch]:
    """The round's stretches in the order in which they began to matter; stages that are not measured yet are left out.

    now: until when devices that owe a reply are waited for, in a round that goes on.
    """
    sent = row.started + _length(row.seconds.get("send"))
    found = [Stretch("select", min(row.since, row.started), row.started)] if row.since is not None else []
    found += [Stretch("send", row.started, sent)] if "send" in row.seconds else []
    devices = [*row.devices, *(name for name in row.updates if name not in row.devices)]
    found += [
        stretch for name in devices if (stretch := _device(row, row.updates.get(name) or UpdateRow(device=name), now)) is not None
    ]
    return [*found, *_afterwards(row)]


def hull(stretches: Sequence[Part]) -> tuple[datetime, datetime]:
    """From the first begin to the last end; of at least one."""
    return min(one.begin for one in stretches), max(one.end for one in stretches)


def _device(row: RoundRow, update: UpdateRow, now: datetime | None) -> Stretch | None:
    """A device's part; None where nothing is known of when it was."""
    end = update.settled or row.finished or now
    if end is None:
        return None
    if update.train_s is None:
        return Stretch(update.device, min(row.started, end), end, update)
    # At their own pace devices begin before the round that their update counts in. Elsewhere a reply that was kept from before a
    # coordinator's death says how long its training once took, and came at once.
    is_free, at, parts = row.selection == "asynchronous", end, list[Part]()
    for name, seconds in (("upload", update.transfer_s), ("train", update.train_s), ("start", update.start_s)):
        begin = at - _length(seconds)
        begin = begin if is_free else max(begin, min(row.started, at))
        parts.insert(0, Part(name, begin, at))
        at = begin
    return Stretch(update.device, at, end, update, tuple(parts))


def _afterwards(row: RoundRow) -> list[Stretch]:
    if row.finished is None:
        return []
    at, found = row.finished, list[Stretch]()
    for name in reversed(AFTER):
        if name in row.seconds:
            begin = at - _length(row.seconds[name])
            found.insert(0, Stretch(name, begin, at))
            at = begin
    return found


def _length(seconds: float | None) -> timedelta:
    """A device says how long it took, and may say anything."""
    return timedelta(seconds=min(max(0.0, seconds), _LONGEST_S) if seconds is not None and isfinite(seconds) else 0.0)
