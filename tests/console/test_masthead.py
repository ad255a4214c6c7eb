from datetime import UTC, datetime

import pytest

from edgefl.console.ink import plain, width
from edgefl.console.live import Frame, Link
from edgefl.console.widgets.masthead import masthead
from edgefl.events.schema import Event
from edgefl.monitor.state import FederationState


def frame_of(events: list[Event], link: Link = Link.LIVE, silence_s: float = 0.4) -> Frame:
    state = FederationState().apply_all(events)
    return Frame(state, link, state.at or datetime.now(UTC), silence_s)


@pytest.mark.parametrize("cells", [80, 100, 120, 160, 200])
def test_both_lines_fit_and_say_the_same_facts_at_every_width(cells: int, events: list[Event]) -> None:
    first, second = masthead(frame_of(events), cells)
    assert width(first) <= cells
    assert width(second) <= cells
    for fact in ("hospital-net", "run 4", "TRAINING", "30/50", "eta", "● live"):
        assert fact in plain(first)
    for fact in ("9/10", "acc 0.9", "loss 0.2", "7.7/8.0", "⚑ 1", "certs 19h", "✓ 10/10"):
        assert fact in plain(second)


def test_silence_is_said_as_staleness_with_its_age(events: list[Event]) -> None:
    assert "◌ stale 14s" in plain(masthead(frame_of(events, silence_s=14.2), 80)[0])
    assert "◌ stale 3s" in plain(masthead(frame_of(events, link=Link.LOST, silence_s=3), 80)[0])


def test_before_the_first_event_the_lines_say_that_there_is_nothing_yet() -> None:
    first, second = masthead(frame_of([], link=Link.CONNECTING), 80)
    assert "no run yet" in plain(first)
    assert "connecting" in plain(first)
    assert "0/0" in plain(second)
