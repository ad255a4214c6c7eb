"""A recording's moments: its state at each is that of the events up to it, in whatever order they are asked for."""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta

import pytest

from edgefl.console.tape import NoSuchMoment, Tape
from edgefl.events.schema import Event
from edgefl.monitor.state import FederationState

from .conftest import BEGAN


@pytest.fixture(scope="module")
def tape(events: list[Event]) -> Tape:
    return taped(events)


def taped(events: list[Event]) -> Tape:
    tape, state = Tape(), FederationState()
    for event in events:
        state = state.apply(event)
        tape.add(event, state)
    return tape


def up_to(events: list[Event], moment: datetime) -> FederationState:
    return FederationState().apply_all(event for event in events if event.at <= moment)


@pytest.mark.slow
def test_the_state_at_any_moment_is_that_of_the_events_up_to_it(tape: Tape, events: list[Event]) -> None:
    assert len(events) > 600, "more than are kept in one piece"
    chance = random.Random(3)
    moments = [event.at for event in chance.sample(events, 40)]
    moments += [moment + timedelta(microseconds=step) for moment in moments[:20] for step in (-1, 1)]
    moments += [BEGAN - timedelta(days=1), events[0].at, events[-1].at, events[-1].at + timedelta(days=1)]
    for moment in (*sorted(moments), *sorted(moments, reverse=True), *chance.sample(moments, len(moments))):
        assert tape.state(moment) == up_to(events, moment), moment


def test_a_clock_that_was_put_back_loses_no_event(events: list[Event]) -> None:
    back = [event.model_copy(update={"at": event.at - timedelta(seconds=5)}) if event.seq == 100 else event for event in events]
    tape = taped(back)
    assert tape.state(back[98].at).seq == 100
    assert tape.state(back[97].at).seq == 98
    assert tape.state(back[-1].at) == FederationState().apply_all(back)


@pytest.mark.parametrize(
    ("text", "seconds"), [("09:02", 120), ("9:02:30", 150), ("start", 0.05), ("09:00", 0.05), ("09:00:00", 0.05)]
)
def test_a_time_is_the_first_of_the_recording_that_shows_it(text: str, seconds: float, tape: Tape) -> None:
    assert tape.find(text) == BEGAN + timedelta(seconds=seconds)


def test_shares_and_rounds_are_moments_too(tape: Tape, events: list[Event]) -> None:
    assert tape.find("50%") - tape.began == (tape.ended - tape.began) / 2
    assert (tape.find("0 %"), tape.find("100%"), tape.find("end")) == (events[0].at, events[-1].at, events[-1].at)
    after = tape.state(tape.find("round 12"))
    assert (after.rounds[-1].number, after.rounds[-1].state) == (12, "finished")
    assert tape.share(tape.find("50%")) == pytest.approx(0.5)


def test_a_time_before_the_beginning_is_the_next_days() -> None:
    tape = Tape()
    for seq in (1, 2, 3):
        at = BEGAN + timedelta(hours=10 * seq)
        body = object()
        tape.add(
            Event.model_construct(seq=seq, at=at, run="", round=0, body=body, previous="", hash=""), FederationState(seq=seq)
        )
    assert tape.find("03:00") == BEGAN + timedelta(hours=18)


@pytest.mark.parametrize("text", ["08:59", "23:00", "25:00", "12:61", "101%", "round 31", "round", "", "noon"])
def test_what_is_no_moment_says_which_there_are(text: str, tape: Tape) -> None:
    with pytest.raises(NoSuchMoment) as error:
        tape.find(text)
    assert "09:00:00 to 09:" in error.value.hint


def test_a_time_is_the_operators_own_clock_and_says_so(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Lima")
    time.tzset()
    assert tape.find("04:02") == BEGAN + timedelta(minutes=2)
    with pytest.raises(NoSuchMoment) as error:
        tape.find("09:02")
    assert "from 04:00:00 to 04:" in error.value.hint
    assert error.value.hint.endswith("-05")


def test_an_empty_recording_has_no_moment() -> None:
    for text in ("start", "end", "50%", "09:00", "round 1"):
        with pytest.raises(NoSuchMoment):
            Tape().find(text)
