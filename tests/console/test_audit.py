"""The Audit view driven by its keys, and its lines as values."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from edgefl.console.archive import Recording
from edgefl.console.audit import deed
from edgefl.console.diary import AUDITED
from edgefl.console.feed import News, ReplayFeed
from edgefl.console.ink import Tone
from edgefl.console.views import VIEWS
from edgefl.console.views.audit import Audit
from edgefl.events.schema import (
    AuditFinished,
    CertificateRefused,
    CertificateRevoked,
    DeviceJudged,
    EnrolmentOpened,
    EnrolmentRefused,
    EnrolmentUsed,
    Event,
    IsolationProven,
    OperatorAction,
    PrivacyRefused,
    RunFinished,
    StartChosen,
)
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status

from .conftest import BEGAN, Recorder, write_recording
from .driving import shown, until
from .test_app import Live, console, names
from .test_pager import Shelf, audited

KEY = str(VIEWS.index(Audit) + 1)


class Opened(Live):
    """A monitor that is opened when its journal ends at `at`: a status, then what is written."""

    def __init__(self, events: list[Event], at: int) -> None:
        super().__init__(events)
        self._at = at

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        if after == 0:
            state = FederationState().apply_all(self._events[: self._at])
            yield Status(state=state, now=self._events[self._at - 1].at, quorum=7)
            after = self._at
        async for event in super().news(after):
            yield event


def told(recorder: Recorder, *bodies) -> list[Event]:  # type: ignore[no-untyped-def]
    for body in bodies:
        recorder.say(body)
    return recorder.events


def many(count: int) -> list[Event]:
    """Operators looked often."""
    return told(Recorder(), *(OperatorAction(who="alice@desk", action=f"look {number}") for number in range(count)))


DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (OperatorAction(who="alice", action="stop", subject="run 4", why="lunch"), ("alice", "stop", "run 4", "lunch")),
        (StartChosen(who="bob", model="4/12", why="it was best"), ("bob", "choose start", "4/12", "it was best")),
        (StartChosen(who="bob"), ("bob", "choose start", "the task's own model", "")),
        (
            AuditFinished(who="bob", audit="membership", passed=False, says="it leaks", at=BEGAN),
            ("bob", "✖ audit", "membership", "it leaks"),
        ),
        (
            DeviceJudged(device="edge-07", before="suspect", conduct="quarantined", reason="flagged 3 times"),
            ("policy", "suspect → quarantined", "edge-07", "flagged 3 times"),
        ),
        (
            PrivacyRefused(device="edge-03", spent=7.9, limit=8, cost=0.2, reason="0.1 is left"),
            ("edge-03", "✖ budget refused", "round 0", "0.1 is left"),
        ),
        (
            CertificateRefused(subject="edge-07", role="device", reason="edge-07 is removed", times=3),
            ("coordinator", "✖ renewal refused", "edge-07", "edge-07 is removed, 3 times"),
        ),
        (
            CertificateRevoked(subject="edge-07", serial="ab", reason="stolen"),
            ("authority", "certificate revoked", "edge-07", "stolen"),
        ),
        (
            EnrolmentUsed(subject="edge-07", source="10.0.0.9", token_sha256=DIGEST, serial="ab", key_sha256=DIGEST, chain=""),
            ("edge-07", "came in by its token", "edge-07", "from 10.0.0.9"),
        ),
        (
            EnrolmentRefused(subject="edge-07", source="10.0.0.9", reason="no token is like it"),
            ("10.0.0.9", "✖ enrolment refused", "edge-07", "no token is like it"),
        ),
        (
            IsolationProven(device="edge-07", probes=14, open_forbidden=["db"], closed_required=["gate"], proof_sha256=""),
            ("probes", "✖ isolation broken", "edge-07", "open: db, closed: gate"),
        ),
        (RunFinished(status="failed", reason="no quorum"), ("coordinator", "✖ run failed", "run ", "no quorum")),
    ],
)
def test_an_event_is_who_did_what_to_what_and_why(body, line) -> None:  # type: ignore[no-untyped-def]
    said = deed(told(Recorder(), body)[-1])
    assert (said.who, said.action, said.subject, said.why) == line


def test_a_token_that_was_given_out_is_told_with_its_end() -> None:
    given = EnrolmentOpened(who="alice", subject="edge-07", token_sha256=DIGEST, valid_s=3600, why="back from repair")
    event = told(Recorder(), given)[-1]
    said = deed(event)
    assert (said.who, said.action, said.subject) == ("alice", "token given out", "edge-07")
    assert said.why == f"back from repair; until {event.at + timedelta(hours=1):%Y-%m-%d %H:%M} UTC"
    assert DIGEST not in str(said.fields())


def test_every_kind_that_is_audited_has_a_line_of_its_own(events: list[Event]) -> None:
    for event in events:
        said = deed(event)
        assert bool(said.who) == isinstance(event.body, AUDITED)
        assert said.tone in Tone


@pytest.mark.slow
async def test_the_past_and_the_live_feed_join_without_gap_or_duplicate(events: list[Event]) -> None:
    feed = Opened(events, 25)
    async with console(feed, len(events), size=(120, 30), archive=Shelf(events)) as (app, pilot):
        await pilot.press(KEY)
        await until(pilot, lambda: "all that the journal has" in shown(app))
        assert names(app) == [str(seq) for seq in reversed(audited(events))]
        recorder = Recorder()
        recorder.events, recorder.now = list(events), events[-1].at
        recorder.say(OperatorAction(who="alice@desk", action="quarantine", subject="edge-07", why="odd updates"))
        feed.more.put_nowait(recorder.events[-1])
        await until(pilot, lambda: "quarantine" in shown(app) and "odd updates" in shown(app))
        assert names(app)[0] == str(len(events) + 1)


@pytest.mark.slow
async def test_older_entries_come_as_the_operator_goes_down_and_all_for_a_filter() -> None:
    events = many(900)
    shelf = Shelf(events)
    async with console(Opened(events, 900), 900, size=(120, 30), archive=shelf) as (app, pilot):
        assert shelf.asked == [], "nothing is fetched before the view is opened"
        await pilot.press(KEY)
        await until(pilot, lambda: "200 entries, older ones come as you go down" in shown(app))
        await pilot.press("end")
        await until(pilot, lambda: "400 entries" in shown(app))
        assert len(shelf.asked) == 2
        await pilot.press("slash", *"look", "space", *"3")
        await until(pilot, lambda: "900 entries, all that the journal has" in shown(app))


@pytest.mark.slow
async def test_enter_opens_an_event_with_its_hash_and_y_copies_it(recording: Path, events: list[Event]) -> None:
    async with console(ReplayFeed(recording), len(events), size=(120, 40), archive=Recording(recording)) as (app, pilot):
        await pilot.press(KEY)
        await until(pilot, lambda: "all that the recording has" in shown(app))
        await pilot.press("end", "y")
        assert app.clipboard == events[1].hash
        await pilot.press("enter")
        await until(pilot, lambda: events[1].hash in shown(app))
        for fact in (events[1].previous, "certificate_issued", "edge-01", "5eed0000", "not_after"):
            assert fact in shown(app)
        await pilot.press("slash", *"hash", "enter", "y")
        assert app.clipboard == events[1].hash
        await pilot.press("slash", "escape", "escape")
        assert isinstance(app.stage.top, Audit)


@pytest.mark.slow
async def test_a_step_back_in_a_recording_shows_what_was_done_until_then(recording: Path, events: list[Event]) -> None:
    async with console(ReplayFeed(recording), len(events), size=(120, 40), archive=Recording(recording)) as (app, pilot):
        await pilot.press(KEY)
        await until(pilot, lambda: names(app) == [str(seq) for seq in reversed(audited(events))])
        await pilot.press(*["left_square_bracket"] * 40)
        seq = app.frame.state.seq
        assert names(app) == [str(each) for each in reversed(audited(events)) if each <= seq]


@pytest.mark.slow
async def test_capital_v_verifies_the_whole_chain_and_says_until_where(recording: Path, events: list[Event]) -> None:
    async with console(ReplayFeed(recording), len(events), size=(120, 40), archive=Recording(recording)) as (app, pilot):
        await pilot.press(KEY)
        assert "V Verify chain" in shown(app)
        await pilot.press("V")
        await until(pilot, lambda: f"✓ the chain holds from event 1 to {len(events)}" in shown(app))
        assert events[-1].hash[:12] in shown(app)


@pytest.mark.slow
async def test_the_first_event_that_breaks_the_chain_is_named(events: list[Event], tmp_path: Path) -> None:
    path = write_recording(events, tmp_path / "run.ndjson")
    async with console(ReplayFeed(path), len(events), size=(140, 40), archive=Recording(path)) as (app, pilot):
        lines = path.read_text().splitlines()
        changed = json.loads(lines[700])
        changed["body"]["device"] = "edge-01"
        assert changed["seq"] == 700
        path.write_text("\n".join([*lines[:700], json.dumps(changed), *lines[701:]]) + "\n")
        await pilot.press(KEY, "V")
        await until(pilot, lambda: "✖ broken at event 700: its content does not match its hash" in shown(app))


@pytest.mark.slow
async def test_verifying_shows_how_far_it_is_and_v_stops_it(events: list[Event]) -> None:
    shelf = Shelf(events)
    shelf.hold.clear()
    async with console(Opened(events, 25), len(events), size=(120, 30), archive=shelf) as (app, pilot):
        await pilot.press(KEY, "V")
        await until(pilot, lambda: f"100 of {len(events)} hold, V stops" in shown(app))
        await pilot.press("V")
        await until(pilot, lambda: f"! stopped at 100 of {len(events)}" in shown(app) and shelf.walks == 0)
        shelf.hold.set()
        await pilot.press("V")
        await until(pilot, lambda: "✓ the chain holds" in shown(app))


@pytest.mark.slow
async def test_the_console_can_be_left_while_it_verifies(events: list[Event]) -> None:
    shelf = Shelf(events)
    shelf.hold.clear()
    async with console(Opened(events, 25), len(events), size=(120, 30), archive=shelf) as (app, pilot):
        await pilot.press(KEY, "V")
        await until(pilot, lambda: "hold, V stops" in shown(app))
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
        assert app.crash is None
    assert shelf.walks == 0


@pytest.mark.slow
async def test_without_a_journal_there_is_nothing_to_be_verified(events: list[Event]) -> None:
    async with console(Live(events), len(events)) as (app, pilot):
        await pilot.press(KEY, "V")
        assert "Verify chain" not in shown(app)
        assert names(app) == [str(seq) for seq in reversed(audited(events))]
