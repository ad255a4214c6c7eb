"""The federation as the feed has told it so far, how fresh that is, and the loop that keeps it fresh.

Nothing here knows Textual: the app runs `Live.follow` in a worker and draws `Live.frame()`.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

from edgefl.console.diary import Diary
from edgefl.console.feed import Feed, News
from edgefl.errors import EdgeflError, NotProvisioned
from edgefl.events.chain import JournalBroken
from edgefl.events.schema import Event, RoundFinished, RoundSkipped, RunFinished
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status
from edgefl.site.invalid import SiteInvalid

STALE_AFTER_S = 10.0
"""Without a word for this long, what is on the screen may no longer be true. The monitor says something every few seconds."""
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 10.0
ABSENT_RETRY_S = 2.0
"""How often a monitor that does not exist yet is looked for: that costs nothing, and somebody is waiting."""
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
    step: where in a recording this is, and how many steps it has; None at its end and on a live feed.
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
    diary: Diary = field(default_factory=Diary)

    @property
    def is_stale(self) -> bool:
        """Whether the world may have moved on."""
        return self.link not in (Link.OVER, Link.ABSENT) and (self.link is not Link.LIVE or self.silence_s > STALE_AFTER_S)

    def age_s(self, at: datetime | None) -> float | None:
        """How long ago something happened, in seconds; None when it never did."""
        return None if at is None else max(0.0, (self.now - at).total_seconds())


class Live:
    """Follows a feed, resuming after the last event it has; `told` is called after whatever may change the screen."""

    def __init__(
        self,
        feed: Feed,
        told: Callable[[], None],
        *,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._told = told
        self._wall = wall
        self._clock = clock
        self._state = FederationState()
        self._frozen: Frame | None = None
        self._steps: list[FederationState] = []
        self._diary = Diary()
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
        """Freeze the picture, or let it catch up."""
        self._frozen = None if self._frozen else self._frame(is_paused=True)
        self._told()

    def step(self, by: int) -> None:
        """Go this many steps through a recording, from wherever the picture stands; past its last step it goes on.

        A step is the end of a round or of a run. States share what did not change, so that keeping each of them costs little.
        """
        steps, seen = self._steps, self.frame().state.seq
        to = bisect_right(steps, seen, key=_seq) + by if by > 0 else max(1, bisect_left(steps, seen, key=_seq) + 1 + by)
        if to > len(steps) or (to == len(steps) and self._state is steps[-1]):
            self._frozen = None
        else:
            state = steps[to - 1]
            self._frozen = Frame(state, self._link, state.at or self._wall(), 0.0, "", True, False, (to, len(steps)), self._diary)
        self._told()

    def _frame(self, *, is_paused: bool = False) -> Frame:
        is_live = self._feed.is_live
        now = self._wall() + self._skew if is_live else self._state.at or self._wall()
        silence_s = max(0.0, self._clock() - self._heard)
        return Frame(self._state, self._link, now, silence_s, self._problem, is_paused, is_live, diary=self._diary)

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
        elif isinstance(news, Event):
            if self._hash and news.seq == self._state.seq + 1 and news.previous != self._hash:
                raise JournalBroken(news.seq, "it does not follow from what was shown before", source="the event stream")
            if news.seq > self._state.seq:
                self._diary.note(news)
            self._state, self._hash = self._state.apply(news), news.hash
            if not self._feed.is_live and isinstance(news.body, RoundFinished | RoundSkipped | RunFinished):
                self._steps.append(self._state)

    def _set(self, link: Link) -> None:
        self._link = link
        self._told()


def _seq(state: FederationState) -> int:
    return state.seq
