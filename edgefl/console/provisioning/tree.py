"""An operation as a tree: stages, in them resources or plays, in plays tasks, in tasks hosts. A pure fold over its Progress.

Trees share what did not change, so that any of them can be kept and drawn while the operation goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from edgefl.errors import EdgeflError
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned


class Mark(IntEnum):
    """How a node stands; of two the larger is what somebody has to know."""

    DONE = 0
    CHANGED = 1
    RUNNING = 2
    WARNED = 3
    STOPPED = 4
    FAILED = 5


@dataclass(frozen=True, slots=True)
class Leaf:
    """What happened to one subject: a resource, a file, or a host in a task.

    steps: how many parts of it are done, of `total` where that is known. began: monotonic seconds.
    """

    subject: str
    what: str
    mark: Mark
    began: float
    seconds: float | None = None
    steps: int = 0
    total: int | None = None
    why: str = ""
    hint: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """One fact that a play brings about, on every host that takes part."""

    name: str
    role: str
    began: float
    seconds: float = 0.0
    """The slowest host's."""
    changed: int = 0
    failed: int = 0
    hosts: Mapping[str, Leaf] = field(default_factory=dict)

    @property
    def mark(self) -> Mark:
        """The gravest of its hosts'."""
        return Mark.FAILED if self.failed else Mark.CHANGED if self.changed else Mark.DONE


@dataclass(frozen=True, slots=True)
class Play:
    """One play, with its tasks in the order in which they began."""

    name: str
    mark: Mark
    began: float
    seconds: float | None = None
    changed: int = 0
    failed: int = 0
    tasks: Mapping[tuple[str, str], Task] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tally:
    """One host over all plays. outcome: what the run says of it at its end."""

    host: str
    done: int = 0
    changed: int = 0
    failed: int = 0
    seconds: float = 0.0
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """The error that ended an operation, as it is shown everywhere else."""

    kind: str
    what: str
    hint: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, error: EdgeflError) -> Fault:
        """The error's own words."""
        return cls(type(error).__name__, error.what, error.hint, tuple(error.lines()))


@dataclass(frozen=True, slots=True)
class Stage:
    """One link of the chain. done: how many subjects, of `total` where that is known, are through."""

    name: str
    what: str
    mark: Mark
    began: float
    seconds: float | None = None
    total: int | None = None
    changed: int = 0
    failed: int = 0
    done: int = 0
    leaves: Mapping[str, Leaf] = field(default_factory=dict)
    plays: tuple[Play, ...] = ()
    tallies: Mapping[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tree:
    """An operation so far.

    operation: `plan`, `up`, `quarantine` or `release`. site: its name. ended: monotonic seconds, None while it is at work.
    """

    operation: str
    site: str
    began: float
    ended: float | None = None
    mark: Mark = Mark.RUNNING
    fault: Fault | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def changed(self) -> int:
        """How many things changed, or would."""
        return sum(stage.changed for stage in self.stages)

    @property
    def failed(self) -> int:
        """How many things failed."""
        return sum(stage.failed for stage in self.stages)

    @property
    def current(self) -> Stage | None:
        """The stage at work."""
        return next((stage for stage in reversed(self.stages) if stage.mark is Mark.RUNNING), None)

    def seconds(self, now: float) -> float:
        """How long it has taken."""
        return (now if self.ended is None else self.ended) - self.began

    def tell(self, event: Progress, at: float) -> Tree:
        """The tree after this event, at monotonic seconds `at`."""
        place = next((place for place, stage in enumerate(self.stages) if stage.name == event.stage), None)
        if place is None:
            what = event.what if isinstance(event, Started) and not event.subject else ""
            fresh = Stage(event.stage, what, Mark.RUNNING, at, total=getattr(event, "total", None) if what else None)
            stage = fresh if what else _told(fresh, event, at)
            return replace(self, stages=(*self.stages, stage))
        stages = list(self.stages)
        stages[place] = _told(stages[place], event, at)
        return replace(self, stages=tuple(stages))

    def tell_all(self, events: Iterable[Progress], at: float) -> Tree:
        """The tree after all of these."""
        tree = self
        for event in events:
            tree = tree.tell(event, at)
        return tree

    def finish(self, at: float, error: EdgeflError | None = None, *, stopped: bool = False) -> Tree:
        """The tree when nothing more comes: whole, ended by an error, or stopped by the operator."""
        mark = Mark.FAILED if error else Mark.STOPPED if stopped else Mark.DONE
        fault = Fault.of(error) if error else None
        return replace(self, ended=at, mark=mark, fault=fault, stages=tuple(_cut(stage, mark, at) for stage in self.stages))


def _told(stage: Stage, event: Progress, at: float) -> Stage:
    """The stage after an event of its own."""
    if not event.subject and isinstance(event, Started):
        return _begun(stage, event, at)
    if not event.subject and isinstance(event, Finished):
        mark = Mark.CHANGED if event.changed else Mark.DONE
        plays = _closed(stage.plays, Mark.DONE, at)
        return replace(stage, what=event.what, mark=mark, seconds=event.seconds or at - stage.began, plays=plays)
    if stage.plays and isinstance(event, Step | Failed | Warned):
        return _in_task(stage, event, at)
    if stage.plays and isinstance(event, Finished):
        tally = replace(stage.tallies.get(event.subject, Tally(event.subject)), outcome=event.what)
        return replace(stage, tallies={**stage.tallies, event.subject: tally})
    return _in_leaf(stage, event, at)


def _begun(stage: Stage, event: Started, at: float) -> Stage:
    """The first word of a stage names it, each later one is a play of it."""
    if not stage.what:
        return replace(stage, what=event.what, total=event.total, mark=Mark.RUNNING)
    play = Play(event.what, Mark.RUNNING, at)
    return replace(stage, mark=Mark.RUNNING, plays=(*_closed(stage.plays, Mark.DONE, at), play))


def _in_task(stage: Stage, event: Step | Failed | Warned, at: float) -> Stage:
    """A step of a task on a host; a warning is about a host that is left out."""
    *before, play = stage.plays
    # A task is known by its role too: roles share names of facts. A failure does not always say its role.
    key = (str(event.detail.get("role", "")), event.what)
    if isinstance(event, Failed) and key not in play.tasks:
        key = next((known for known in play.tasks if known[1] == event.what), key)
    failed, changed = isinstance(event, Failed), isinstance(event, Step) and event.changed
    seconds = event.seconds if isinstance(event, Step) else 0.0
    leaf = _leaf(event, at, seconds)
    task = play.tasks.get(key) or Task(event.what, key[0], at)
    earlier = task.hosts.get(event.subject)
    if earlier is not None and earlier.mark > leaf.mark:
        leaf = earlier  # a task that runs twice on a host is as it was at its worst
    task = replace(
        task,
        seconds=max(task.seconds, seconds),
        changed=task.changed + changed,
        failed=task.failed + failed,
        hosts={**task.hosts, event.subject: leaf},
    )
    play = replace(play, changed=play.changed + changed, failed=play.failed + failed, tasks={**play.tasks, key: task})
    tallies = stage.tallies
    if event.subject:
        tally = tallies.get(event.subject) or Tally(event.subject)
        tally = replace(
            tally,
            done=tally.done + 1,
            changed=tally.changed + changed,
            failed=tally.failed + failed,
            seconds=tally.seconds + seconds,
        )
        tallies = {**tallies, event.subject: tally}
    return replace(
        stage,
        changed=stage.changed + changed,
        failed=stage.failed + failed,
        plays=(*before, play),
        tallies=tallies,
    )


def _in_leaf(stage: Stage, event: Progress, at: float) -> Stage:
    """An event about a subject of a stage without plays."""
    known = stage.leaves.get(event.subject)
    if known is not None and known.mark is Mark.RUNNING and isinstance(event, Step | Warned):
        leaf = replace(known, what=event.what, steps=known.steps + 1)
        return replace(stage, leaves={**stage.leaves, event.subject: leaf})
    leaf = _leaf(event, at, getattr(event, "seconds", 0.0))
    if known is not None:
        leaf = _after(known, leaf, at)
    # What is said of a subject that is through is another fact about it, with a line of its own.
    is_other = known is not None and (isinstance(event, Step | Warned) or known.mark is Mark.FAILED)
    key = f"{event.subject}\n{event.what}" if is_other else event.subject
    was_counted = known is not None and not is_other and known.mark is Mark.CHANGED
    changed = isinstance(event, Step | Finished) and event.changed and not was_counted
    done = isinstance(event, Finished | Failed)
    return replace(
        stage,
        changed=stage.changed + changed - (was_counted and isinstance(event, Started)),
        failed=stage.failed + isinstance(event, Failed),
        done=stage.done + done,
        leaves={**stage.leaves, key: leaf},
    )


def _after(known: Leaf, leaf: Leaf, at: float) -> Leaf:
    """What is new about a subject, with what is known of it already: its action, and when it began."""
    seconds = leaf.seconds
    if seconds is not None and known.mark is Mark.RUNNING:
        seconds = seconds or at - known.began
    began = known.began if known.mark is Mark.RUNNING else leaf.began
    return replace(leaf, detail={**known.detail, **leaf.detail}, seconds=seconds, began=began, total=known.total or leaf.total)


def _leaf(event: Progress, at: float, seconds: float) -> Leaf:
    match event:
        case Started():
            return Leaf(event.subject, event.what, Mark.RUNNING, at, total=event.total, detail=event.detail)
        case Failed():
            return Leaf(event.subject, event.what, Mark.FAILED, at, seconds, why=event.why, hint=event.hint, detail=event.detail)
        case Warned():
            return Leaf(event.subject, event.what, Mark.WARNED, at, hint=event.hint, detail=event.detail)
    mark = Mark.CHANGED if getattr(event, "changed", False) else Mark.DONE
    return Leaf(event.subject, event.what, mark, at, seconds, detail=event.detail)


def _closed(plays: tuple[Play, ...], mark: Mark, at: float) -> tuple[Play, ...]:
    """The plays with the last one at its end; one in which something failed has failed."""
    if not plays or plays[-1].mark is not Mark.RUNNING:
        return plays
    *before, last = plays
    mark = Mark.FAILED if last.failed else Mark.CHANGED if mark is Mark.DONE and last.changed else mark
    return (*before, replace(last, mark=mark, seconds=at - last.began))


def _cut(stage: Stage, mark: Mark, at: float) -> Stage:
    """A stage when the operation is over: what was at work there ended with it."""
    if stage.mark is not Mark.RUNNING:
        return stage
    leaves = {
        key: replace(leaf, mark=mark, seconds=at - leaf.began) if leaf.mark is Mark.RUNNING else leaf
        for key, leaf in stage.leaves.items()
    }
    return replace(stage, mark=mark, seconds=at - stage.began, leaves=leaves, plays=_closed(stage.plays, mark, at))
