"""The tree as lines: what of it is open, in the order of the screen. What is drawn is decided here, without a screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgefl.console.provisioning.tree import Leaf, Mark, Play, Stage, Tally, Task, Tree

Node = Stage | Play | Task | Tally | Leaf
_SIGNS = {"create": "+", "update": "~", "delete": "-", "replace": "±"}
_ACTIVE = frozenset({Mark.RUNNING, Mark.FAILED, Mark.STOPPED})
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


class Outline:
    """Lines of one operation's trees, one after the other; those of a task that did not change are not made anew."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[Task, int, bool, list[Line]]] = {}

    def lines(self, tree: Tree, said: Mapping[str, bool], now: float) -> list[Line]:
        """Every line that is not beneath a closed one.

        said: what the operator opened and closed, by key; for the rest, what is at work or has failed stands open, and in a plan
        what would change.
        """
        look = _Look(tree.operation == "plan", said, now, self._tasks)
        return [line for stage in tree.stages for line in look.stage(stage)]


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at a tree."""

    is_plan: bool
    said: Mapping[str, bool]
    now: float
    tasks: dict[str, tuple[Task, int, bool, list[Line]]]

    def stage(self, stage: Stage) -> Iterator[Line]:
        beneath = bool(stage.leaves or stage.plays)
        is_active = stage.mark in _ACTIVE or stage.failed > 0 or (self.is_plan and stage.changed > 0)
        is_open = self.said.get(stage.name, is_active) if beneath else None
        yield Line(
            stage.name,
            0,
            stage.name,
            stage.what,
            stage.mark,
            stage,
            self._elapsed(stage),
            is_open,
            share=stage.done / stage.total if stage.total and not stage.plays and stage.mark is Mark.RUNNING else None,
            changed=stage.changed,
            failed=stage.failed,
        )
        if not is_open:
            return
        for key, leaf in stage.leaves.items():
            yield _of_leaf(f"{stage.name}/{key}", leaf, self._elapsed(leaf))
        for place, play in enumerate(stage.plays):
            yield from self._play(f"{stage.name}/{place}", play, len(stage.tallies))
        if stage.tallies:  # last, where the eye is that follows the newest task
            yield from self._tallies(stage)

    def _play(self, key: str, play: Play, hosts: int) -> Iterator[Line]:
        is_active = play.mark in _ACTIVE or (self.is_plan and play.changed > 0)
        is_open = self.said.get(key, is_active) if play.tasks else None
        what = _tasks(len(play.tasks)) if play.tasks else ""
        seconds = self._elapsed(play)
        yield Line(key, 1, play.name, what, play.mark, play, seconds, is_open, changed=play.changed, failed=play.failed)
        if is_open:
            for (role, name), task in play.tasks.items():
                if not self.is_plan or task.mark is not Mark.DONE:
                    yield from self._task(f"{key}/{role}/{name}", task, hosts)

    def _task(self, key: str, task: Task, hosts: int) -> list[Line]:
        is_open = self.said.get(key, task.mark is Mark.FAILED)
        known = self.tasks.get(key)
        if known is None or known[0] is not task or known[1:3] != (hosts, is_open):
            known = self.tasks[key] = (task, hosts, is_open, list(_of_task(key, task, hosts, is_open=is_open)))
        return known[3]

    def _tallies(self, stage: Stage) -> Iterator[Line]:
        """A bar per host: how many tasks it has been through, beside the host that has been through most."""
        key = f"{stage.name}/hosts"
        is_open = self.said.get(key, len(stage.tallies) <= _FEW)
        worst = max(_standing(tally, stage.mark) for tally in stage.tallies.values())
        yield Line(key, 1, "hosts", f"{len(stage.tallies)} take part", worst, None, is_open=is_open)
        if is_open:
            most = max(1, *(tally.done for tally in stage.tallies.values()))
            for name, tally in sorted(stage.tallies.items()):
                yield _of_tally(f"{key}/{name}", tally, _standing(tally, stage.mark), most)

    def _elapsed(self, node: Stage | Play | Leaf) -> float | None:
        return self.now - node.began if node.seconds is None and node.mark is Mark.RUNNING else node.seconds


def _of_task(key: str, task: Task, hosts: int, *, is_open: bool) -> Iterator[Line]:
    """A task, and where it is open each host's part; its bar shows how many hosts are through while some are not."""
    done = len(task.hosts)
    yield Line(
        key,
        2,
        task.name,
        "",
        task.mark,
        task,
        task.seconds,
        is_open,
        share=done / hosts if done < hosts else None,
        changes=task.changed / done,
        failures=task.failed / done,
        changed=task.changed,
        failed=task.failed,
    )
    if is_open:
        for leaf in task.hosts.values():
            what = leaf.why or ("changed" if leaf.mark is Mark.CHANGED else "as the site says")
            name, failed = leaf.subject or "every host", leaf.mark is Mark.FAILED
            changed = leaf.mark is Mark.CHANGED
            yield Line(
                f"{key}/{leaf.subject}", 3, name, what, leaf.mark, leaf, leaf.seconds, changed=int(changed), failed=int(failed)
            )


def _of_leaf(key: str, leaf: Leaf, seconds: float | None) -> Line:
    return Line(
        key,
        1,
        leaf.subject,
        f"{leaf.what}: {leaf.why}" if leaf.why else leaf.what,
        leaf.mark,
        leaf,
        seconds,
        sign=_SIGNS.get(str(leaf.detail.get("action", "")), ""),
        share=min(1.0, leaf.steps / leaf.total) if leaf.total and leaf.mark is Mark.RUNNING else None,
        changed=int(leaf.mark is Mark.CHANGED),
        failed=int(leaf.mark is Mark.FAILED),
    )


def _of_tally(key: str, tally: Tally, mark: Mark, most: int) -> Line:
    done = max(1, tally.done)
    return Line(
        key,
        2,
        tally.host,
        tally.outcome or _tasks(tally.done),
        mark,
        tally,
        tally.seconds,
        share=tally.done / most,
        changes=tally.changed / done,
        failures=tally.failed / done,
        changed=tally.changed,
        failed=tally.failed,
    )


def _tasks(many: int) -> str:
    return "1 task" if many == 1 else f"{many} tasks"


def _standing(tally: Tally, stage: Mark) -> Mark:
    if tally.failed:
        return Mark.FAILED
    if stage is Mark.RUNNING and not tally.outcome:
        return Mark.RUNNING
    return Mark.CHANGED if tally.changed else Mark.DONE
