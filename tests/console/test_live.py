"""The feed's loop, on a feed that really ends, fails and resumes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgefl.console import live as live_module
from edgefl.console.feed import Feed, Heartbeat, News, ReplayFeed
from edgefl.console.live import Link, Live
from edgefl.errors import EdgeflError, NotProvisioned
from edgefl.events.schema import Event
from edgefl.monitor.errors import MonitorUnreachable
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status


class Flaky:
    """A monitor whose connection breaks after so many events; it remembers from where each connection asked."""

    is_live = True

    def __init__(self, events: list[Event], each: int) -> None:
        self._events = events
        self._each = each
        self.asked: list[int] = []

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        self.asked.append(after)
        yield Heartbeat()
        for event in self._events[after : after + self._each]:
            yield event
        if after + self._each >= len(self._events):
            await asyncio.Event().wait()
        raise MonitorUnreachable("the monitor does not answer: connection reset")


class Watch:
    """Follows a feed until a condition holds."""

    def __init__(self, feed: Feed, **clocks: Callable[[], Any]) -> None:
        self._changed = asyncio.Event()
        self.links: list[Link] = []
        self.live = Live(feed, self._told, **clocks)

    def _told(self) -> None:
        self.links.append(self.live.frame().link)
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.live.follow())
        try:
            async with asyncio.timeout(60):
                while not holds():
                    await self._changed.wait()
                    self._changed.clear()
        finally:
            task.cancel()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "FIRST_RETRY_S", 0.001)


async def test_a_lost_feed_is_asked_again_from_the_last_event_without_gaps_or_duplicates(events: list[Event]) -> None:
    feed = Flaky(events, each=100)
    watch = Watch(feed)
    await watch.until(lambda: watch.live.frame().state.seq == len(events))
    assert feed.asked == list(range(0, len(events), 100))
    assert watch.live.frame().state == FederationState().apply_all(events)
    assert Link.LOST in watch.links
    assert watch.live.frame().link is Link.LIVE


async def test_while_the_feed_is_lost_the_last_state_stays_and_its_age_grows(events: list[Event]) -> None:
    now = 100.0

    class Dead(Flaky):
        async def news(self, after: int) -> AsyncGenerator[News, None]:
            if after:
                raise MonitorUnreachable("the coordinator does not answer")
            for event in self._events[:50]:
                yield event

    watch = Watch(Dead(events, 0), clock=lambda: now)
    await watch.until(lambda: watch.live.frame().problem == "the coordinator does not answer")
    now = 114.5
    frame = watch.live.frame()
    assert frame.is_stale
    assert frame.silence_s == 14.5
    assert frame.state.seq == 50


async def test_a_live_feed_that_says_nothing_goes_stale_by_itself(events: list[Event]) -> None:
    now = 0.0
    watch = Watch(Flaky(events, each=len(events)), clock=lambda: now)
    await watch.until(lambda: watch.live.frame().state.seq == len(events))
    assert not watch.live.frame().is_stale
    now = live_module.STALE_AFTER_S + 1
    assert watch.live.frame().is_stale


async def test_a_pause_freezes_the_picture_while_events_go_on_arriving(events: list[Event]) -> None:
    feed = Flaky(events, each=100)
    watch = Watch(feed)
    await watch.until(lambda: watch.live.frame().state.seq >= 100)
    watch.live.pause()
    frozen = watch.live.frame()
    await watch.until(lambda: len(feed.asked) > 3)
    assert watch.live.frame() is frozen
    assert frozen.is_paused
    watch.live.pause()
    assert watch.live.frame().state.seq > frozen.state.seq


async def test_a_status_stands_for_all_events_before_it_and_sets_the_clock(events: list[Event]) -> None:
    there = datetime(2030, 1, 1, tzinfo=UTC)

    class Monitor:
        is_live = True

        async def news(self, after: int) -> AsyncGenerator[News, None]:
            yield Status(state=FederationState().apply_all(events[:200]), now=there, quorum=7)
            for event in events[200:]:
                yield event
            await asyncio.Event().wait()

    watch = Watch(Monitor(), wall=lambda: datetime(2026, 3, 2, 9, tzinfo=UTC))
    await watch.until(lambda: watch.live.frame().state.seq == len(events))
    assert watch.live.frame().state == FederationState().apply_all(events)
    assert watch.live.frame().now == there


async def test_a_stream_that_does_not_follow_from_what_was_shown_is_not_shown(events: list[Event]) -> None:
    class Replaced:
        is_live = True

        async def news(self, after: int) -> AsyncGenerator[News, None]:
            if after == 0:
                for event in events[:10]:
                    yield event
            else:
                yield events[10].model_copy(update={"previous": "f" * 64})

    watch = Watch(Replaced())
    await watch.until(lambda: "broken" in watch.live.frame().problem)
    assert watch.live.frame().state.seq == 10


async def test_a_recording_ends_and_its_time_is_its_own(recording: Path, events: list[Event]) -> None:
    watch = Watch(ReplayFeed(recording))
    await watch.until(lambda: watch.live.frame().link is Link.OVER)
    frame = watch.live.frame()
    assert frame.state.seq == len(events)
    assert frame.now == events[-1].at
    assert not frame.is_stale


@pytest.fixture
def forged(recording: Path, tmp_path: Path) -> tuple[Path, int]:
    """A recording with one figure changed, and the event that it is in."""
    lines = recording.read_text().splitlines(keepends=True)
    changed = next(seq for seq, line in enumerate(lines) if '"samples":' in line)
    lines[changed] = lines[changed].replace('"samples":', '"samples":9')
    path = tmp_path / "forged.ndjson"
    path.write_text("".join(lines))
    return path, changed


async def test_a_recording_that_was_changed_says_at_which_event(forged: tuple[Path, int]) -> None:
    path, changed = forged
    watch = Watch(ReplayFeed(path))
    await watch.until(lambda: watch.live.frame().link is Link.OVER)
    assert f"broken at seq {changed}" in watch.live.frame().problem


class Playing(Watch):
    """A recording that has been read, at a clock of the test's own."""

    def __init__(self, recording: Path, *, speed: float = 0.0) -> None:
        self.now = 100.0
        super().__init__(ReplayFeed(recording), clock=lambda: self.now)
        self.live._speed = speed


def up_to(events: list[Event], moment: datetime) -> FederationState:
    return FederationState().apply_all(event for event in events if event.at <= moment)


async def test_a_recording_plays_at_its_speed_and_comes_to_its_end(recording: Path, events: list[Event]) -> None:
    watch = Playing(recording, speed=20)
    await watch.until(lambda: watch.live._link is Link.OVER)
    for seconds in (0.0, 1.5, 7.0, 7.25):
        watch.now = 100.0 + seconds
        frame = watch.live.frame()
        assert frame.speed == 20
        assert frame.now == events[0].at + timedelta(seconds=20 * seconds)
        assert frame.state == up_to(events, frame.now)
    watch.now += 3600
    assert watch.live.frame().state == FederationState().apply_all(events)
    assert watch.live.frame().speed == 0
    assert watch.live.frame().played is None


async def test_faster_and_slower_go_on_from_where_it_is(recording: Path, events: list[Event]) -> None:
    def at() -> tuple[float, float]:
        frame = watch.live.frame()
        return frame.speed, (frame.now - events[0].at).total_seconds()

    watch = Playing(recording)
    await watch.until(lambda: watch.live.frame().link is Link.OVER)
    watch.live.pace(1)
    assert at() == (1, 0), "from the end it begins again"
    watch.now += 10
    watch.live.pace(1)
    watch.live.pace(1)
    assert at() == (5, 10)
    watch.now += 2
    watch.live.pace(-1)
    assert at() == (2, 20)
    watch.live.pause()
    watch.now += 50
    assert at() == (0, 20), "it stands"
    watch.live.pause()
    watch.now += 1
    assert at() == (2, 22), "it goes on"


async def test_a_seek_stands_still_and_while_playing_it_plays_on(recording: Path, events: list[Event]) -> None:
    watch = Playing(recording)
    await watch.until(lambda: watch.live.frame().link is Link.OVER)
    moment = events[300].at
    watch.live.seek(moment)
    assert watch.live.frame().state == up_to(events, moment)
    assert watch.live.frame().is_paused
    watch.live.pace(1)
    watch.now += 3
    watch.live.seek(events[100].at)
    watch.now += 1
    assert watch.live.frame().now == events[100].at + timedelta(seconds=1)
    assert watch.live.frame().state == up_to(events, watch.live.frame().now)
    watch.live.seek(events[-1].at)
    assert watch.live.frame().state.seq == len(events)


class Awaited:
    """A site whose monitor comes to be while the console waits: not provisioned, then silent, then there."""

    is_live = True

    def __init__(self, events: list[Event], *before: EdgeflError) -> None:
        self._events = events
        self._before = list(before)

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        if self._before:
            raise self._before.pop(0)
        for event in self._events[after:]:
            yield event
        await asyncio.Event().wait()


async def test_a_monitor_that_is_not_there_yet_is_waited_for_and_nothing_is_called_lost(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "ABSENT_RETRY_S", 0.001)
    silent = MonitorUnreachable("the monitor on hub does not answer: connection refused")
    watch = Watch(Awaited(events, NotProvisioned("clinic is not provisioned yet"), silent))
    problems: list[str] = []

    def is_whole() -> bool:
        frame = watch.live.frame()
        problems.append(frame.problem)
        assert frame.link in (Link.ABSENT, Link.LIVE) or not problems[1:]
        assert frame.link is not Link.ABSENT or not frame.is_stale
        return frame.state.seq == len(events)

    await watch.until(is_whole)
    assert silent.what in problems
    assert Link.LOST not in watch.links
    assert watch.live.frame().problem == ""


async def test_a_monitor_that_was_there_is_lost_when_it_is_gone(events: list[Event]) -> None:
    watch = Watch(Flaky(events, each=100))
    await watch.until(lambda: watch.live.frame().link is Link.LOST)
    assert Link.ABSENT not in watch.links
