"""A recording that is looked at: its events, its state at any moment of it, and the moments that can be asked for."""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import datetime, timedelta

from edgefl.errors import EdgeflError
from edgefl.events.schema import Event, RoundFinished, RoundSkipped, RunFinished
from edgefl.monitor.state import FederationState

_KEPT_EVERY = 200
"""Events between two states that are kept; those between them are folded when they are asked for."""
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_SHARE = re.compile(r"(\d{1,3})\s*%")
_ROUND = re.compile(r"round (\d+)")


class NoSuchMoment(EdgeflError):
    """What was typed is no moment of the recording; the hint says which there are."""


class Tape:
    """What was taken in of a recording, in order.

    steps: the states at the ends of rounds and runs. States share what did not change, so that keeping them costs little.
    """

    def __init__(self) -> None:
        self.steps: list[FederationState] = []
        self._events: list[Event] = []
        self._times: list[datetime] = []
        self._kept = [FederationState()]
        self._last = (0, FederationState())

    def add(self, event: Event, state: FederationState) -> None:
        """The next event, and the state after it."""
        self._events.append(event)
        self._times.append(max(event.at, self._times[-1]) if self._times else event.at)  # a clock may have been put back
        if len(self._events) % _KEPT_EVERY == 0:
            self._kept.append(state)
        if isinstance(event.body, RoundFinished | RoundSkipped | RunFinished):
            self.steps.append(state)

    @property
    def has_any(self) -> bool:
        """Whether there is an event."""
        return bool(self._events)

    @property
    def began(self) -> datetime:
        """The time of the first event; IndexError while there is none."""
        return self._times[0]

    @property
    def ended(self) -> datetime:
        """The time of the last event; IndexError while there is none."""
        return self._times[-1]

    def share(self, moment: datetime) -> float:
        """How far into the recording a moment lies, from 0 to 1."""
        return min(1.0, max(0.0, (moment - self.began) / ((self.ended - self.began) or timedelta(seconds=1))))

    def state(self, moment: datetime) -> FederationState:
        """The state of all events up to a moment."""
        count = bisect_right(self._times, moment)
        place, state = count // _KEPT_EVERY * _KEPT_EVERY, self._kept[count // _KEPT_EVERY]
        if place <= self._last[0] <= count:
            place, state = self._last
        self._last = (count, state.apply_all(self._events[place:count]))
        return self._last[1]

    def find(self, text: str) -> datetime:
        """The moment that is meant: `12:34:56`, `12:34` (by this machine's clock), `50%`, `round 12` (its end), `start`, `end`.

        Raises NoSuchMoment.
        """
        if text in ("start", "end") and self._times:
            return self.began if text == "start" else self.ended
        if (share := _SHARE.fullmatch(text)) and self._times and int(share[1]) <= 100:
            return self.began + (self.ended - self.began) * (int(share[1]) / 100)
        if round_ := _ROUND.fullmatch(text):
            for state in self.steps:
                if state.at is not None and state.rounds and state.rounds[-1].number == int(round_[1]):
                    return max(state.at, self.began)
        if (time := _TIME.fullmatch(text)) and self._times and (moment := self._next(time)) is not None:
            return moment
        began, ended = (f"{time.astimezone():%H:%M:%S}" for time in (self.began, self.ended)) if self._times else ("", "")
        says = f", :at TIME from {began} to {ended} {self.ended.astimezone():%Z}" if self._times else ""
        raise NoSuchMoment(f"the recording has no moment {text!r}", hint=f":at 50%, :at round N{says}")

    def _next(self, time: re.Match[str]) -> datetime | None:
        """The first moment of the recording at which a clock shows this time."""
        hour, minute, second = (int(part or 0) for part in time.groups())
        if hour > 23 or minute > 59 or second > 59:
            return None
        began = self.began.astimezone().replace(tzinfo=None)  # a clock on the wall, which has no zone
        moment = began.replace(hour=hour, minute=minute, second=second, microsecond=0)
        if moment < began.replace(second=began.second if time[3] else 0, microsecond=0):
            moment += timedelta(days=1)
        found = moment.astimezone()
        return max(found, self.began) if found <= self.ended else None
