"""What a run begins with, and how each of its rounds comes to count: the model, its record and the journal's word, in this order.

A crash between any two of them loses at most the round under way. A record without the journal's word gets it when the run is
resumed, so that no round is missing and none is there twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from edgefl.events.journal import Journal
from edgefl.events.schema import AnyBody, DeviceJudged, DeviceState, ModelPrivacySpent, PrivacySpent
from edgefl.federation import rounds
from edgefl.federation.aggregation.policy import PARDONED
from edgefl.federation.aggregation.reputation import Reputation, Standing
from edgefl.federation.aggregation.vectors import Template, Vector
from edgefl.federation.checkpoint import CheckpointUnusable, Models, Staged, Version
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.local import initial_arrays
from edgefl.federation.optimisers import Optimiser, OptimiserMismatch
from edgefl.federation.retention import Pinned, require_newest, surplus
from edgefl.federation.rounds import Plan, RunInvalid
from edgefl.federation.task import Task

Arrays = Mapping[str, NDArray[Any]]
MIB = 1024 * 1024
LEFT = "left"
"""The vector beside the optimiser's own."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the coordinator takes from one round to the next, besides the model.

    left: what quantising the step on its way down left out, (p,) float32; None where nothing is quantised.
    claimed: what each device said of its records first. privacy: each device's latest copy of its ledger. released: what the
    coordinator's own ledger said last, where it protects whole devices. turns: how many times each device was asked and is done,
    where devices train at their own pace.
    """

    reputation: Reputation
    optimiser: Optimiser
    claimed: dict[str, int] = field(default_factory=dict)
    privacy: dict[str, PrivacySpent] = field(default_factory=dict)
    left: Vector | None = None
    released: ModelPrivacySpent | None = None
    turns: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Saving:
    """Where one run's versions go. parent: the version that the round under way is trained from."""

    models: Models
    journal: Journal
    host: HostConfig
    plan: Plan
    task: str
    parent: Version | None = None
    pinned: Pinned = field(init=False)

    def __post_init__(self) -> None:
        self.pinned = Pinned(self.journal)

    def stage(self, round_: int, arrays: Arrays, memory: Memory) -> Staged:
        """Put a round's model on the disk. Raises CheckpointUnusable."""
        left = {LEFT: memory.left} if memory.left is not None else {}
        return self.models.stage(self.plan.run, round_, arrays, {**memory.optimiser.vectors, **left})

    def commit(self, staged: Staged, memory: Memory, said: Sequence[AnyBody] = ()) -> None:
        """Make the round count, say so in the journal, and delete what no longer fits.

        said: the round's scores and flags, and its result last: the journal gets all or nothing. Raises CheckpointUnusable.
        """
        head = self.journal.head()
        version = Version(
            run=staged.run,
            round=staged.round,
            training=self.plan.training,
            sha256=staged.sha256,
            bytes=staged.bytes,
            site=self.host.site,
            site_hash=self.host.site_hash,
            task=self.task,
            rule=self.plan.rule,
            optimiser=memory.optimiser.settings.name,
            parent=self.parent.name if self.parent else "",
            parent_sha256=self.parent.sha256 if self.parent else "",
            journal_seq=head.seq,
            journal_hash=head.hash,
            said=list(said),
            privacy=memory.privacy,
            released=memory.released,
            plan=asdict(self.plan),
            reputation=memory.reputation.as_dict(),
            claimed=memory.claimed,
            turns=memory.turns,
            steps=memory.optimiser.steps,
            moments_sha256=staged.moments_sha256,
        )
        self.models.commit(version)
        self.parent = version
        self.journal.append_all(said, run=version.run, round=version.round)
        self._tidy()

    def _tidy(self) -> None:
        versions = self.models.versions()
        sizes = {version.name: self.models.size(version) for version in versions}
        # This run's own newest too: beside a journal that was begun anew, older versions have higher numbers.
        pinned = self.pinned.names() | {self.plan.start, self.parent.name if self.parent else ""}
        for version in surplus(versions, sizes, self.host.models.keep_mb * MIB, pinned):
            self.models.remove(version)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a run begins with."""

    plan: Plan
    saving: Saving
    arrays: Arrays
    memory: Memory


def begin(host: HostConfig, models: Models, journal: Journal, task: Task, *, overrides: Mapping[str, Any], run: str) -> Beginning:
    """A new model, a version that was chosen, or the last complete round of the run that this one goes on from.

    overrides: Flower's run configuration (see rounds.plan). Raises RunInvalid; CheckpointUnusable when what should be there is
    not, or is damaged.
    """
    plan = rounds.plan(host, overrides, run)
    versions = models.versions()
    models.sweep(versions)
    memory = Memory(_reputation(versions, journal), Optimiser(host.aggregation.optimiser))
    if versions:
        tell(journal, versions[-1])
    if plan.resume:
        last = models.last(plan.resume)
        require_newest(last, journal)
        if last.task != task.ref:
            raise RunInvalid(
                f"run {last.training} trained the task {last.task}, and the site now has {task.ref}",
                hint=f"put back task.module: {last.task}, or train anew: edgefl run",
            )
        before = rounds.recorded(last.plan)
        plan = replace(rounds.plan(host, overrides, run, before=before), resume=last.training)
        plan = rounds.resumed(plan, last.round)
    fresh = initial_arrays(task, {**host.task.parameters, **plan.parameters}, plan.seed, host.task.personal_layers)
    if plan.resume:
        arrays = _fitting(models.arrays(last), fresh, last, task)
        memory = _remembered(last, memory, models, Template.of(arrays).size)
        return Beginning(plan, Saving(models, journal, host, plan, task.ref, last), arrays, memory)
    if not plan.start:
        return Beginning(plan, Saving(models, journal, host, plan, task.ref), fresh, memory)
    chosen = models.find(plan.start)
    arrays = _fitting(models.arrays(chosen), fresh, chosen, task)
    return Beginning(plan, Saving(models, journal, host, plan, task.ref, chosen), arrays, memory)


def tell(journal: Journal, version: Version) -> None:
    """Say in the journal that a version's round finished, where a crash came between the record and the word."""
    if version.finished is None:
        return
    told = journal.records(run=version.run, kind=version.finished.type)
    if all(record["round"] != version.round for record in told):
        journal.append_all(version.said, run=version.run, round=version.round)


def _reputation(versions: list[Version], journal: Journal) -> Reputation:
    """The devices' standing after the last round that counted, of whichever run; who was pardoned since, or taken back from
    quarantine, is as new.
    """
    if not versions:
        return Reputation()
    try:
        found = Reputation.from_dict(versions[-1].reputation)
    except ValueError as error:
        raise CheckpointUnusable(f"the devices' reputations after {versions[-1].name} cannot be read: {error}") from error
    since = [event.body for event in journal.events(versions[-1].journal_seq)]
    pardoned = [body.device for body in since if isinstance(body, DeviceJudged) and body.reason == PARDONED]
    pardoned += [body.device for body in since if isinstance(body, DeviceState) and body.state == "enrolled"]
    return Reputation({**found.standings, **dict.fromkeys(pardoned, Standing())})


def _remembered(last: Version, memory: Memory, models: Models, size: int) -> Memory:
    settings = memory.optimiser.settings
    if settings.name != last.optimiser:
        raise RunInvalid(
            f"run {last.run} trained with the optimiser {last.optimiser}, and the site now has {settings.name}",
            hint=f"edgefl models rollback {last.name} && edgefl run starts anew from its model",
        )
    vectors = models.moments(last)
    left = vectors.pop(LEFT, None)
    try:
        optimiser = Optimiser.restored(settings, last.steps, vectors, size)
    except OptimiserMismatch as error:
        raise RunInvalid(f"run {last.run} cannot be resumed: {error}") from error
    return Memory(memory.reputation, optimiser, dict(last.claimed), dict(last.privacy), left, last.released, dict(last.turns))


def _fitting(arrays: dict[str, NDArray[Any]], fresh: Arrays, version: Version, task: Task) -> dict[str, NDArray[Any]]:
    if Template.of(arrays) != Template.of(fresh):
        raise RunInvalid(f"the model {version.name} does not fit the task {task.ref} any more", hint="edgefl models list")
    return arrays
