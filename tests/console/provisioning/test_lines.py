"""Which lines of a tree stand on the screen, and how they look."""

from __future__ import annotations

import pytest

from edgefl.console.ink import plain, width
from edgefl.console.provisioning import changes
from edgefl.console.provisioning.lines import Line, Outline
from edgefl.console.provisioning.looks import bar_ink, headline, name_ink, story
from edgefl.console.provisioning.tree import Mark, Tree
from edgefl.errors import EdgeflError
from edgefl.progress import Failed, Started, Step

from .conftest import Stream, stream_of


def tree_of(name: str, operation: str, *, ended: bool = True) -> Tree:
    tree = Tree(operation, "clinic", 0.0).tell_all(stream_of(name), 1.0)
    if not ended:
        return tree
    failed = tree.failed > 0
    return tree.finish(9.0, EdgeflError("edge-02: it failed\nfor good", hint="edgefl doctor edge-02") if failed else None)


def outline(tree: Tree, **said: bool) -> list[Line]:
    return Outline().lines(tree, {key.replace("__", "/"): value for key, value in said.items()}, 5.0)


def names(lines: list[Line]) -> list[str]:
    return ["  " * line.depth + line.name for line in lines]


def test_a_plan_shows_each_change_under_its_part_with_its_sign() -> None:
    lines = outline(tree_of("plan-first", "plan"))
    assert names(lines)[:5] == ["infrastructure", "  edge-01", "  edge-02", "  hub", "configuration"]
    assert [plain(name_ink(line, 40)).strip() for line in lines[1:3]] == [
        "+ edge-01  will be created",
        "+ edge-02  will be created",
    ]


def test_what_is_done_is_closed_and_what_failed_is_open_down_to_the_host() -> None:
    lines = outline(tree_of("converge", "up"))
    assert names(lines) == [
        "configuration",
        "  Every host has its files",
        "  The services start",
        "    The service is ready",
        "      edge-01",
        "      edge-03",
        "      edge-02",
        "      hub",
        "    The service is well",
        "  hosts",
        "    edge-01",
        "    edge-02",
        "    edge-03",
        "    hub",
    ]
    failed = lines[6]
    assert (failed.mark, failed.what) == (Mark.FAILED, "no space left")


def test_what_the_operator_opens_and_closes_stays_so() -> None:
    tree = tree_of("converge", "up")
    assert names(outline(tree, configuration=False)) == ["configuration"]
    assert "    The host is asked what it is" in names(outline(tree, configuration__0=True))


def test_a_plan_leaves_out_the_tasks_that_would_change_nothing() -> None:
    lines = outline(tree_of("converge", "plan"))
    assert "    The host knows its name" in names(lines)
    assert "    The host is asked what it is" not in names(lines)


def test_many_hosts_are_closed_until_they_are_asked_for() -> None:
    tree = Tree("up", "big", 0.0).tell_all([Started("configuration", "", "converge"), Started("configuration", "", "play")], 0.0)
    tree = tree.tell_all([Step("configuration", f"edge-{each:03}", "it stands") for each in range(100)], 1.0)
    assert names(outline(tree))[-1] == "  hosts"
    assert len(outline(tree, configuration__hosts=True)) == len(outline(tree)) + 100


def test_a_task_that_did_not_change_is_not_drawn_anew() -> None:
    events = stream_of("converge")
    before = Tree("up", "clinic", 0.0).tell_all(events[:15], 1.0)
    kept = Outline()
    said = {"configuration/0": True}
    first = {line.key: line for line in kept.lines(before, said, 2.0)}
    second = {line.key: line for line in kept.lines(before.tell_all(events[15:], 3.0), said, 4.0)}
    key = "configuration/0//The host knows its name"
    assert second[key] is first[key]
    assert second["configuration"].changed > first["configuration"].changed


def test_a_bar_says_how_much_of_a_host_changed_and_failed() -> None:
    tree = tree_of("converge", "up")
    bars = {line.name: "".join(plain(bar_ink(line, 10))) for line in outline(tree) if line.key.startswith("configuration/hosts/")}
    assert bars == {"edge-01": "~~~~~~━━━━", "edge-02": "✖✖~~~~━━──", "edge-03": "~~~~~~━━━━", "hub": "~~~~~~━━━━"}


@pytest.mark.parametrize("cells", [20, 36, 80])
def test_a_name_never_outgrows_its_column(cells: int) -> None:
    for name in ("converge", "plan-unfit", "up-unfit"):
        assert all(width(name_ink(line, cells)) <= cells for line in outline(tree_of(name, "up")))


def test_the_headline_says_how_it_stands_and_what_is_next() -> None:
    running = tree_of("converge", "up", ended=False)

    def lines(tree: Tree, *, is_stopping: bool = False) -> str:
        return "\n".join(plain(line) for line in headline(tree, 65.0, is_stopping=is_stopping))

    assert "● at work  apply of clinic  1m05s  11 changed, 1 failed" in lines(running)
    assert "■ stopping" in lines(running, is_stopping=True)
    assert "nothing is lost; A goes on from here" in lines(running.finish(70.0, stopped=True))
    failed = lines(tree_of("converge", "up"))
    assert "✖ failed  apply of clinic  9s" in failed
    assert "edge-02: it failed\nnext: edgefl doctor edge-02" in failed
    assert "14 would change, 0 failed\nA applies it" in lines(tree_of("plan-first", "plan"))


def told(line: Line, tree: Tree, cells: int = 70) -> str:
    return "\n".join(plain(part) for part in story(line, tree.fault, cells))


def test_a_failed_host_tells_what_the_module_said_and_the_likely_fix() -> None:
    tree = tree_of("converge", "up")
    (line,) = [line for line in outline(tree) if line.what == "no space left"]
    text = told(line, tree)
    for fact in (
        "✖ edge-02",
        "The service is ready",
        "no space left",
        "next: edgefl doctor edge-02",
        "rc: 3",
        'cmd: ["sh", "-c"',
    ):
        assert fact in text
    assert all(width(part) <= 70 for part in story(line, tree.fault, 70))


def test_a_failed_stage_tells_the_whole_error_and_a_failed_task_each_of_its_hosts() -> None:
    tree = tree_of("converge", "up")
    lines = outline(tree)
    assert "for good" in told(lines[0], tree)
    assert "next: edgefl doctor edge-02" in told(lines[0], tree)
    assert "✖ edge-02" in told(lines[3], tree)


def test_a_planned_change_tells_what_differs() -> None:
    tree = Tree("plan", "clinic", 0.0).tell(
        Step(
            "infrastructure",
            "edge-01",
            "will be changed",
            changed=True,
            detail={"action": "update", "before": {"cpu": 1}, "after": {"cpu": 2}},
        ),
        1.0,
    )
    _, line = outline(tree)
    assert line.sign == "~"
    assert "cpu: 1 → 2" in told(line, tree)


def test_control_characters_of_a_device_do_not_reach_the_terminal() -> None:
    events = [
        Started("configuration", "", "converge"),
        Started("configuration", "", "play"),
        Failed(
            "configuration", "edge-01", "it starts", why="\x1b[31mred\x1b]0;title\x07", detail={"result": {"stderr": "\x9b2J"}}
        ),
    ]
    tree = Tree("up", "clinic", 0.0).tell_all(events, 1.0)
    for line in outline(tree):
        drawn = plain(name_ink(line, 80)) + told(line, tree)
        assert drawn.replace("\n", "").isprintable()


def test_the_question_before_an_apply_names_every_change(stream: Stream) -> None:
    plan = Tree("plan", "clinic", 0.0).tell_all(stream("plan-first"), 1.0).finish(2.0)
    infrastructure, configuration, certificates = changes.told(plan).splitlines()
    assert infrastructure == "infrastructure: will be created: edge-01, edge-02, hub"
    assert configuration.endswith("would be configured whole: hub, edge-01, edge-02")
    assert "the site's own authority would be made: clinic" in certificates
    assert "its device certificate for 24 h would be issued: edge-01, edge-02" in certificates


def test_the_question_says_what_the_plan_could_not_find_out_and_what_is_nothing(stream: Stream) -> None:
    plan = Tree("plan", "clinic", 0.0).tell_all(stream("plan-unfit"), 1.0)
    broken = plan.finish(2.0, EdgeflError("3 hosts are not fit\nedge-01: does not answer"))
    assert changes.told(broken).splitlines()[-1] == "The plan could not be made whole: 3 hosts are not fit"
    assert "Nothing would change" in changes.told(Tree("plan", "clinic", 0.0).finish(1.0))


def test_many_names_are_counted() -> None:
    assert changes.listed([f"edge-{each}" for each in range(9)]) == "edge-0, edge-1, edge-2, edge-3, edge-4, edge-5 and 3 more"
