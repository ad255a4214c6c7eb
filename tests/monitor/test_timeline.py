"""Where a round's time lay: stages and devices' parts, in seconds from the round's start."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from edgefl.events.schema import DeviceDropped, RoundStarted, UpdateReceived
from edgefl.monitor.evolve import evolve
from edgefl.monitor.round import RoundRow, UpdateRow
from edgefl.monitor.state import FederationState
from edgefl.monitor.timeline import Part, Stretch, hull, timeline
from tests.console.conftest import BEGAN, Recorder

from .happened import DEVICES, happened, row_of, started, tell


def placed(row: RoundRow, part: Part) -> tuple[str, float, float]:
    return part.name, *(round((at - row.started).total_seconds(), 3) for at in (part.begin, part.end))


def told(row: RoundRow, stretches: list[Stretch]) -> list[tuple[str, float, float]]:
    return [placed(row, one) for one in stretches]


def test_a_round_is_select_send_the_devices_and_what_came_after_them() -> None:
    row = row_of(happened())
    assert told(row, timeline(row)) == [
        ("select", -4, 0),
        ("send", 0, 0.3),
        ("edge-01", 0.8, 5),
        ("edge-02", 0, 9),
        ("edge-03", 0, 20),
        ("score", 20.25, 20.75),
        ("aggregate", 20.75, 21),
        ("evaluate", 21, 23),
    ]
    assert hull(timeline(row)) == (row.started - timedelta(seconds=4), row.finished)


def test_a_devices_part_ends_when_its_reply_was_filed() -> None:
    row = row_of(happened())
    parts = {one.name: [placed(row, part) for part in one.parts] for one in timeline(row)}
    assert parts["edge-01"] == [("start", 0.8, 1), ("train", 1, 4), ("upload", 4, 5)]
    assert parts["edge-02"] == [("start", 0, 0.5), ("train", 0.5, 6.5), ("upload", 6.5, 9)]
    assert parts["edge-03"] == [], "nothing is known of what it did"


def test_while_a_round_goes_on_whoever_owes_a_reply_is_waited_for() -> None:
    row = row_of(happened()[:5])
    now = row.started + timedelta(seconds=7)
    assert told(row, timeline(row, now)) == [("select", -4, 0), ("edge-01", 0.8, 5), ("edge-02", 0, 7), ("edge-03", 0, 7)]


def test_choosing_begins_where_the_round_before_it_ended_or_the_run_began() -> None:
    recorder = Recorder()
    recorder.run("7")
    recorder.say(started())
    tell(recorder, 1)
    tell(recorder, 2)
    state = FederationState().apply_all(recorder.events)
    assert [row.since for row in state.rounds] == [state.run.started, state.rounds[0].finished]
    recorder.run("8")
    recorder.say(started(resumes="7", first_round=3), after_s=600)
    recorder.say(RoundStarted(devices=DEVICES, deadline_s=20), round_=3, after_s=1)
    state = FederationState().apply_all(recorder.events)
    assert state.rounds[-1].since == state.run.started, "not in the run before it"


def test_a_kept_reply_that_came_at_once_lies_within_its_round() -> None:
    row = row_of(happened())
    kept = evolve(row.updates["edge-01"], settled=row.started + timedelta(seconds=1))
    (one,) = [one for one in timeline(evolve(row, updates={"edge-01": kept})) if one.name == "edge-01"]
    assert [placed(row, part) for part in one.parts] == [("start", 0, 0), ("train", 0, 0), ("upload", 0, 1)]


def test_at_their_own_pace_devices_begin_before_the_round() -> None:
    row = evolve(row_of(happened()), selection="asynchronous")
    early = evolve(row.updates["edge-02"], settled=row.started + timedelta(seconds=2))
    one = next(one for one in timeline(evolve(row, updates={"edge-02": early})) if one.name == "edge-02")
    assert placed(row, one) == ("edge-02", -7, 2)


def test_what_a_device_was_given_up_for_first_is_when_its_part_ended() -> None:
    recorder = Recorder()
    recorder.run("7")
    recorder.say(RoundStarted(devices=DEVICES, deadline_s=20), round_=1)
    recorder.say(
        UpdateReceived(device="edge-01", samples=1, bytes_up=1, bytes_down=1, train_s=1, transfer_s=1), round_=1, after_s=3
    )
    recorder.say(DeviceDropped(device="edge-01", reason="it was drained"), round_=1, after_s=9)
    row = RoundRow.begun(recorder.events[0].body, recorder.events[0])
    row = row.after(recorder.events[1]).after(recorder.events[2])
    assert placed(row, timeline(row)[0]) == ("edge-01", 1, 3)


@given(st.floats(), st.floats(), st.floats(), st.sampled_from(["all", "asynchronous"]))
def test_whatever_a_device_says_its_part_is_a_time(start_s: float, train_s: float, transfer_s: float, selection: str) -> None:
    update = UpdateRow(device="a", start_s=start_s, train_s=train_s, transfer_s=transfer_s, settled=BEGAN + timedelta(seconds=9))
    row = RoundRow(number=1, started=BEGAN, devices=("a",), updates={"a": update}, selection=selection)
    (one,) = timeline(row)
    assert one.begin <= one.end == update.settled
    assert [part.begin for part in one.parts[1:]] == [part.end for part in one.parts[:-1]]
    assert (one.parts[0].begin, one.parts[-1].end) == (one.begin, one.end)
    assert selection == "asynchronous" or one.begin >= row.started
