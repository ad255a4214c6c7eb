"""The tree, folded from what operations really said."""

from __future__ import annotations

import pytest

from edgefl.console.provisioning.tree import Mark, Tree
from edgefl.errors import EdgeflError, Locked
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned

from .conftest import Stream

ERROR = EdgeflError("edge-02: The service is ready: no space left", hint="edgefl doctor edge-02")


def told(events: list[Progress], operation: str = "up") -> Tree:
    """Each event a second after the one before it."""
    tree = Tree(operation, "clinic", 0.0)
    for second, event in enumerate(events):
        tree = tree.tell(event, float(second))
    return tree


def test_a_plan_has_its_parts_in_order_with_every_change(stream: Stream) -> None:
    tree = told(stream("plan-first"), "plan").finish(30.0)
    assert [(stage.name, stage.mark, stage.changed) for stage in tree.stages] == [
        ("infrastructure", Mark.CHANGED, 3),
        ("configuration", Mark.CHANGED, 3),
        ("certificates", Mark.CHANGED, 8),
    ]
    hub = [leaf.what for leaf in tree.stages[2].leaves.values() if leaf.subject == "hub"]
    assert [what.split()[1] for what in hub] == ["gate", "superlink"], "a host with two certificates has two lines"
    assert (tree.mark, tree.changed, tree.failed, tree.seconds(99.0)) == (Mark.DONE, 14, 0, 30.0)


def test_a_resource_is_planned_made_and_done_on_one_line(stream: Stream) -> None:
    events = stream("up-unfit")
    made = next(place for place, event in enumerate(events) if event.what == "is being created")
    (infrastructure,) = [stage for stage in told(events[: made + 1]).stages if stage.name == "infrastructure"]
    assert {leaf.subject: leaf.mark for leaf in infrastructure.leaves.values()}[events[made].subject] is Mark.RUNNING
    assert infrastructure.changed == 2, "what is being made is not made yet"
    (infrastructure,) = [stage for stage in told(events).stages if stage.name == "infrastructure"]
    assert {(leaf.subject, leaf.what, leaf.detail["action"]) for leaf in infrastructure.leaves.values()} == {
        (host, "created", "create") for host in ("hub", "edge-01", "edge-02")
    }
    assert (infrastructure.changed, infrastructure.done, infrastructure.total) == (3, 3, 3)


def test_hosts_that_fail_end_the_stage_with_why_and_what_next(stream: Stream) -> None:
    tree = told(stream("up-unfit")).finish(20.0, EdgeflError("not fit", hint="edgefl doctor hub"))
    last = tree.stages[-1]
    assert (last.name, last.mark, last.failed) == ("preflight", Mark.FAILED, 3)
    assert last.leaves["hub"].why.endswith("Connection refused")
    assert last.leaves["hub"].hint == "edgefl doctor hub"
    assert tree.fault is not None
    assert tree.fault.lines == ("✖ not fit", "  next: edgefl doctor hub")
    assert tree.current is None


def test_plays_hold_tasks_and_tasks_hold_hosts(stream: Stream) -> None:
    (stage,) = told(stream("converge")).stages
    assert [(play.name, len(play.tasks)) for play in stage.plays] == [("Every host has its files", 3), ("The services start", 2)]
    first, second = stage.plays
    assert (first.mark, first.changed, second.mark, second.failed) == (Mark.CHANGED, 8, Mark.RUNNING, 1)
    ready = second.tasks["", "The service is ready"]
    assert {host: leaf.mark for host, leaf in ready.hosts.items()}["edge-02"] is Mark.FAILED
    assert (ready.mark, ready.changed, ready.failed) == (Mark.FAILED, 3, 1)
    assert ready.hosts["edge-02"].detail["result"]["stderr"] == "no space left"


def test_each_host_has_its_tally(stream: Stream) -> None:
    (stage,) = told(stream("converge")).stages
    assert {name: (tally.done, tally.changed, tally.failed, tally.outcome) for name, tally in stage.tallies.items()} == {
        "hub": (5, 3, 0, "3 things changed"),
        "edge-01": (5, 3, 0, "3 things changed"),
        "edge-02": (4, 2, 1, ""),
        "edge-03": (5, 3, 0, "3 things changed"),
    }


def test_an_error_fails_the_play_in_which_something_failed(stream: Stream) -> None:
    (stage,) = told(stream("converge")).finish(60.0, ERROR).stages
    assert (stage.mark, [play.mark for play in stage.plays]) == (Mark.FAILED, [Mark.CHANGED, Mark.FAILED])


@pytest.mark.parametrize("at", [1, 3, 6, 9, 12, 15])
def test_stopped_anywhere_what_was_at_work_is_stopped_and_what_was_done_is_done(at: int, stream: Stream) -> None:
    tree = told(stream("up-unfit")[:at]).finish(99.0, stopped=True)
    *done, last = tree.stages
    assert tree.mark is Mark.STOPPED
    assert last.mark in (Mark.STOPPED, Mark.DONE, Mark.CHANGED)
    assert all(stage.mark in (Mark.DONE, Mark.CHANGED) for stage in done)
    assert not any(leaf.mark is Mark.RUNNING for stage in tree.stages for leaf in stage.leaves.values())


def test_an_error_before_the_first_event_stands_alone() -> None:
    tree = Tree("up", "clinic", 0.0).finish(1.0, Locked("`edgefl down` is at work on clinic", hint="wait for it"))
    assert tree.stages == ()
    assert tree.fault is not None
    assert tree.fault.kind == "Locked"


def test_trees_before_stay_as_they_were(stream: Stream) -> None:
    events = stream("converge")
    half = told(events[:12])
    was = half.stages[0].tallies["hub"].done
    half.tell_all(events[12:], 50.0)
    assert half.stages[0].tallies["hub"].done == was
    assert len(half.stages[0].plays) == 1


def test_files_that_are_fetched_are_steps_of_their_part() -> None:
    events: list[Progress] = [
        Started("bundle", "", "gather what hosts need"),
        Started("bundle", "wheels", "fetch wheels", total=4),
        Step("bundle", "wheels", "torch.whl", changed=True),
        Step("bundle", "wheels", "numpy.whl", changed=True),
    ]
    leaf = told(events).stages[0].leaves["wheels"]
    assert (leaf.mark, leaf.what, leaf.steps, leaf.total) == (Mark.RUNNING, "numpy.whl", 2, 4)
    tree = told([*events, Finished("bundle", "wheels", "4 wheels", changed=True)])
    assert tree.stages[0].leaves["wheels"].mark is Mark.CHANGED
    assert tree.stages[0].leaves["wheels"].seconds == 3.0


def test_a_step_before_the_stages_own_word_does_not_make_that_a_play() -> None:
    events: list[Progress] = [
        Step("configuration", "edge-02", "does not exist yet", changed=True),
        Started("configuration", "", "check 2 hosts", total=2),
        Started("configuration", "", "Every host is fit"),
    ]
    (stage,) = told(events).stages
    assert (stage.what, stage.total, [play.name for play in stage.plays]) == ("check 2 hosts", 2, ["Every host is fit"])
    assert stage.leaves["edge-02"].mark is Mark.CHANGED


def test_a_device_that_is_left_out_is_a_warning_in_its_task() -> None:
    events: list[Progress] = [
        Started("configuration", "", "converge 1 hosts", total=1),
        Started("configuration", "", "Every host is fit"),
        Warned("configuration", "edge-01", "left out: its clock is 40 s ahead", hint="set it"),
    ]
    (stage,) = told(events).stages
    leaf = stage.plays[0].tasks["", "left out: its clock is 40 s ahead"].hosts["edge-01"]
    assert (leaf.mark, leaf.hint, stage.failed) == (Mark.WARNED, "set it", 0)


def test_a_task_that_runs_twice_on_a_host_is_as_it_was_at_its_worst() -> None:
    play: list[Progress] = [Started("configuration", "", "converge"), Started("configuration", "", "play")]
    events: list[Progress] = [
        *play,
        Failed("configuration", "a", "it starts", why="no"),
        Step("configuration", "a", "it starts", changed=True),
    ]
    task = told(events).stages[0].plays[0].tasks["", "it starts"]
    assert (task.hosts["a"].mark, task.changed, task.failed) == (Mark.FAILED, 1, 1)
