"""The tree as lines: what of it is open, in the order of the screen. Pure: what is drawn is decided here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgefl.console.provisioning.tree import Leaf, Mark, Play, Stage, Tally, Task, Tree

Node = Stage | Play | Task | Tally | Leaf
_SIGNS = {"create": "+", "update": "~", "delete": "-", "replace": "±"}
_FEW = 12
"""So many hosts are shown with their bars without being asked for."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the tree.

    key: what it is known by while the tree grows. is_open: None where nothing lies beneath it.
    share: how far it is, 0 to 1; None where that is not known. changes, failures: shares of the bar that changed or failed.
    """

    key: str
    depth: int
    name: str
    what: str
    mark: Mark
    node: Node | None
    seconds: float | None = None
    is_open: bool | None = None
    sign: str = ""
    share: float | None = None
    changes: float = 0.0
    failures: float = 0.0
    changed: int = 0
    failed: int = 0


def lines(tree: Tree, said: Mapping[str, bool], now: float) -> list[Line]:
    """Every line that is not beneath a closed one.

    said: what the operator opened and closed, by key; for the rest, what is at work or has failed stands open, and in a plan
    what would change.
    """
    return [line for stage in tree.stages for line in _stage(tree, stage, said, now)]


def _stage(tree: Tree, stage: Stage, said: Mapping[str, bool], now: float) -> Iterator[Line]:
    plan = tree.operation == "plan"
    beneath = bool(stage.leaves or stage.plays)
    # Files that are fetched, one line each, are nothing to look at once they are there.
    active = stage.mark in (Mark.RUNNING, Mark.FAILED, Mark.STOPPED) or (plan and stage.changed > 0) or stage.failed > 0
    is_open = said.get(stage.name, active) if beneath else None
    share = min(1.0, stage.done / stage.total) if stage.total and not stage.plays else None
    yield Line(
        stage.name,
        0,
        stage.name,
        stage.what,
        stage.mark,
        stage,
        _elapsed(stage.began, stage.seconds, stage.mark, now),
        is_open,
        share=share,
        changed=stage.changed,
        failed=stage.failed,
    )
    if not is_open:
        return
    for key, leaf in stage.leaves.items():
        yield _leaf(f"{stage.name}/{key}", 1, leaf, now)
    for place, play in enumerate(stage.plays):
        yield from _play(stage, place, play, said, now, only_changes=plan)
    if stage.tallies:  # last, where the eye is that follows the newest task
        yield from _tallies(stage, said)


def _tallies(stage: Stage, said: Mapping[str, bool]) -> Iterator[Line]:
    """A bar per host: how many tasks it has been through, beside the host that has been through most."""
    key = f"{stage.name}/hosts"
    worst = max((_mark(tally, stage.mark) for tally in stage.tallies.values()), default=Mark.DONE)
    is_open = said.get(key, len(stage.tallies) <= _FEW)
    yield Line(key, 1, "hosts", f"{len(stage.tallies)} take part", worst, None, is_open=is_open)
    if not is_open:
        return
    most = max((tally.done for tally in stage.tallies.values()), default=0) or 1
    for name, tally in sorted(stage.tallies.items()):
        whole = max(1, tally.done)
        yield Line(
            f"{key}/{name}",
            2,
            name,
            tally.outcome or f"{tally.done} tasks",
            _mark(tally, stage.mark),
            tally,
            tally.seconds,
            share=tally.done / most,
            changes=tally.changed / whole,
            failures=tally.failed / whole,
            changed=tally.changed,
            failed=tally.failed,
        )


def _play(stage: Stage, place: int, play: Play, said: Mapping[str, bool], now: float, *, only_changes: bool) -> Iterator[Line]:
    key = f"{stage.name}/{place}"
    active = play.mark in (Mark.RUNNING, Mark.FAILED, Mark.STOPPED) or (only_changes and play.changed > 0)
    is_open = said.get(key, active) if play.tasks else None
    seconds = _elapsed(play.began, play.seconds, play.mark, now)
    what = f"{len(play.tasks)} tasks" if play.tasks else ""
    yield Line(key, 1, play.name, what, play.mark, play, seconds, is_open, changed=play.changed, failed=play.failed)
    if not is_open:
        return
    for (role, name), task in play.tasks.items():
        if task.mark is not Mark.DONE or not only_changes:
            yield from _task(f"{key}/{role}/{name}", task, len(stage.tallies), said, now)


def _task(key: str, task: Task, of: int, said: Mapping[str, bool], now: float) -> Iterator[Line]:
    is_open = said.get(key, task.mark is Mark.FAILED)
    hosts = len(task.hosts)
    share = hosts / of if of else 1.0
    yield Line(
        key,
        2,
        task.name,
        "",
        task.mark,
        task,
        task.seconds,
        is_open,
        share=share if share < 1 else None,
        changes=task.changed / hosts,
        failures=task.failed / hosts,
        changed=task.changed,
        failed=task.failed,
    )
    if is_open:
        for leaf in task.hosts.values():
            yield _leaf(f"{key}/{leaf.subject}", 3, leaf, now, within=True)


def _leaf(key: str, depth: int, leaf: Leaf, now: float, *, within: bool = False) -> Line:
    what = leaf.why or ("" if within else leaf.what)
    if within and not what:
        what = "changed" if leaf.mark is Mark.CHANGED else "as the site says"
    elif leaf.why and not within:
        what = f"{leaf.what}: {leaf.why}"
    return Line(
        key,
        depth,
        leaf.subject or "every host" if within else leaf.subject,
        what,
        leaf.mark,
        leaf,
        _elapsed(leaf.began, leaf.seconds, leaf.mark, now),
        sign=_SIGNS.get(str(leaf.detail.get("action", "")), ""),
        share=min(1.0, leaf.steps / leaf.total) if leaf.total and leaf.mark is Mark.RUNNING else None,
        changed=int(leaf.mark is Mark.CHANGED),
        failed=int(leaf.mark is Mark.FAILED),
    )


def _mark(tally: Tally, stage: Mark) -> Mark:
    if tally.failed:
        return Mark.FAILED
    if stage is Mark.RUNNING and not tally.outcome:
        return Mark.RUNNING
    return Mark.CHANGED if tally.changed else Mark.DONE


def _elapsed(began: float, seconds: float | None, mark: Mark, now: float) -> float | None:
    return seconds if seconds is not None or mark is not Mark.RUNNING else now - began
