"""The federation as the feed has told it so far, how fresh that is, and the loop that keeps it fresh.

Nothing here knows Textual: the app runs `Live.follow` in a worker and draws `Live.frame()`.
"""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

from edgefl.console.diary import Diary
from edgefl.console.feed import Feed, News
from edgefl.console.tape import Tape
from edgefl.errors import EdgeflError, NotProvisioned
from edgefl.events.chain import JournalBroken
from edgefl.events.schema import Event
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status
from edgefl.site.invalid import SiteInvalid

STALE_AFTER_S = 10.0
"""Without a word for this long, what is on the screen may no longer be true. The monitor says something every few seconds."""
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 10.0
ABSENT_RETRY_S = 2.0
"""How often a monitor that does not exist yet is looked for: that costs nothing, and somebody is waiting."""
SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""How many times faster than it happened a recording can be played."""
SLICE_S = 0.01
"""How long a burst of events may hold the UI's loop before it gets its turn."""


class Link(Enum):
    """How the console stands to its feed."""

    CONNECTING = "connecting"
    ABSENT = "absent"
    """There is no monitor yet, and nothing is lost."""
    LIVE = "live"
    LOST = "lost"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Frame:
    """All that views draw from: the state and how true it is.

    now: the coordinator's clock, or a recording's own time. silence_s: since the feed was last heard.
    step: which step of a recording this is, and how many it has; None between steps, at its end and on a live feed.
    played: how far into a recording this is, from 0 to 1, and None at its end; speed: how fast it plays, 0 while it stands.
    diary: what was heard for the audit so far, events after this frame's included.
    """

    state: FederationState
    link: Link
    now: datetime
    silence_s: float
    problem: str = ""
    is_paused: bool = False
    is_live: bool = True
    step: tuple[int, int] | None = None
    played: float | None = None
    speed: float = 0.0
    diary: Diary = field(default_factory=Diary)

    @property
    def is_stale(self) -> bool:
        """Whether the world may have moved on."""
        return self.link not in (Link.OVER, Link.ABSENT) and (self.link is not Link.LIVE or self.silence_s > STALE_AFTER_S)

    def age_s(self, at: datetime | None) -> float | None:
        """How long ago something happened, in seconds; None when it never did."""
        return None if at is None else max(0.0, (self.now - at).total_seconds())


class Live:
    """Follows a feed, resuming after the last event it has; `told` is called after whatever may change the screen.

    speed: how many times faster than it happened a recording is played, once it has begun to come; 0 shows its end.
    """

    def __init__(
        self,
        feed: Feed,
        told: Callable[[], None],
        *,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        speed: float = 0.0,
    ) -> None:
        self._feed = feed
        self._told = told
        self._wall = wall
        self._clock = clock
        self._state = FederationState()
        self._frozen: Frame | None = None
        self._diary = Diary()
        self._speed = speed
        self._playing: tuple[datetime, float] | None = None
        self.tape = Tape()
        self._link = Link.CONNECTING
        self._heard = clock()
        self._problem = ""
        self._skew = timedelta()
        self._hash = ""

    @property
    def is_paused(self) -> bool:
        """Whether the picture stands still while events go on arriving."""
        return self._frozen is not None

    def frame(self) -> Frame:
        """What to draw now."""
        return self._frozen or self._frame()

    def pause(self) -> None:
        """Freeze the picture, or let it catch up; a recording that was playing plays on."""
        frozen, self._frozen = self._frozen, None
        if frozen is None:
            self._frozen = self._frame(is_paused=True)
            self._playing = None
        elif self._speed and frozen.played is not None:
            self._play(frozen.now)
        self._told()

    def step(self, by: int) -> None:
        """Go this many steps through a recording, from wherever the picture stands; past its last step stands its end.

        A step is the end of a round or of a run.
        """
        steps, seen = self.tape.steps, self.frame().state.seq
        to = bisect_right(steps, seen, key=_seq) + by if by > 0 else max(1, bisect_left(steps, seen, key=_seq) + 1 + by)
        self._playing = self._frozen = None
        if to < len(steps) or (to == len(steps) and self._state is not steps[-1]):
            state = steps[to - 1]
            at = state.at or self._wall()
            share, diary = self.tape.share(at), self._diary
            self._frozen = Frame(state, self._link, at, 0.0, "", True, False, (to, len(steps)), share, diary=diary)
        self._told()

    @property
    def moments(self) -> list[str]:
        """What `:at` takes, to be offered; empty on a live feed, which has no moment but the present one."""
        rounds = [state.rounds[-1].number for state in self.tape.steps if state.rounds]
        return ["at start", "at 50%", *(f"at round {number}" for number in rounds)] if self.tape.has_any else []

    def seek(self, moment: datetime) -> None:
        """Go to a moment of a recording; what is playing goes on from there, and what is not stands still."""
        if self._playing:
            self._play(moment)
        else:
            self._frozen = self._frame_at(moment, is_paused=True) if moment < self.tape.ended else None
        self._told()

    def pace(self, by: int) -> None:
        """Play a recording faster or slower, from where the picture stands; from its beginning when that is the end."""
        frame = self.frame()
        at = bisect_right(SPEEDS, self._speed) - 1
        if self._playing or by < 0:
            self._speed = SPEEDS[max(0, min(len(SPEEDS) - 1, at + by))]
        self._speed = self._speed or SPEEDS[0]
        self._play(frame.now if frame.played is not None else self.tape.began)
        self._told()

    def _play(self, moment: datetime) -> None:
        self._frozen = None
        self._playing = (moment, self._clock())

    def _frame(self, *, is_paused: bool = False) -> Frame:
        if self._playing is not None:
            began, clock = self._playing
            moment = began + timedelta(seconds=(self._clock() - clock) * self._speed)
            if self._link is not Link.OVER or moment < self.tape.ended:
                return self._frame_at(min(moment, self.tape.ended), is_paused=is_paused)
            self._playing = None
        is_live = self._feed.is_live
        now = self._wall() + self._skew if is_live else self._state.at or self._wall()
        silence_s = max(0.0, self._clock() - self._heard)
        return Frame(self._state, self._link, now, silence_s, self._problem, is_paused, is_live, diary=self._diary)

    def _frame_at(self, moment: datetime, *, is_paused: bool) -> Frame:
        """A moment of the recording; it plays unless it is paused."""
        state, share = self.tape.state(moment), self.tape.share(moment)
        speed = 0.0 if is_paused else self._speed
        return Frame(
            state, self._link, moment, 0.0, self._problem, is_paused, False, played=share, speed=speed, diary=self._diary
        )

    async def follow(self) -> None:
        """Take in events for as long as the feed has any, reconnecting with backoff when it is lost."""
        retry_s = FIRST_RETRY_S
        while True:
            before = self._state.seq
            is_absent = False
            try:
                await self._take()
            except EdgeflError as error:
                self._problem = "" if isinstance(error, NotProvisioned) else error.what
                is_absent = isinstance(error, NotProvisioned | SiteInvalid) or self._link is Link.ABSENT
            else:
                self._problem = "the monitor ended the stream" if self._feed.is_live else ""
            if not self._feed.is_live:
                self._set(Link.OVER)
                return
            if self._link is Link.LIVE or self._state.seq > before:
                retry_s = FIRST_RETRY_S
            if is_absent:
                self._set(Link.ABSENT)
                await asyncio.sleep(ABSENT_RETRY_S)
                continue
            self._set(Link.LOST)
            await asyncio.sleep(retry_s)
            retry_s = min(LONGEST_RETRY_S, retry_s * 2)

    async def _take(self) -> None:
        slice_began = self._clock()
        async with aclosing(self._feed.news(self._state.seq)) as feed:
            async for news in feed:
                self._heard = self._clock()
                self._learn(news)
                self._problem = ""
                self._set(Link.LIVE)
                if self._clock() - slice_began > SLICE_S:
                    await asyncio.sleep(0)
                    slice_began = self._clock()

    def _learn(self, news: News) -> None:
        if isinstance(news, Status):
            self._state, self._hash = news.state, ""
            self._diary.begin(news.state.seq)
            self._skew = news.now - self._wall()
            gc.freeze()  # what stands by now lasts: to walk all of it for garbage, over and over, would hold the screen up
        elif isinstance(news, Event):
            if self._hash and news.seq == self._state.seq + 1 and news.previous != self._hash:
                raise JournalBroken(news.seq, "it does not follow from what was shown before", source="the event stream")
            if news.seq > self._state.seq:
                self._diary.note(news)
            is_first = self._state.seq == 0
            self._state, self._hash = self._state.apply(news), news.hash
            if not self._feed.is_live:
                self.tape.add(news, self._state)
                if is_first and self._speed:
                    self._play(self.tape.began)

    def _set(self, link: Link) -> None:
        self._link = link
        self._told()


def _seq(state: FederationState) -> int:
    return state.seq
