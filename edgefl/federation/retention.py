"""Which versions of the global model the coordinator keeps: as many as fit, and always those that somebody counts on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from edgefl.events.journal import Journal
from edgefl.events.schema import OperatorAction, StartChosen
from edgefl.federation.checkpoint import CheckpointUnusable, Version

MOST = 500
"""Versions kept at most, however small they are: each is a file to look at."""
EXPORTED = "export"
"""The operator's action that makes a version stay; its subject is the version's name."""


class Pinned:
    """The versions that an operator exported or chose, as the journal has them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._seen = 0
        self._names: set[str] = set()

    def names(self) -> set[str]:
        """`run/round` of each; reads only what was appended since the last call."""
        for event in self._journal.events(self._seen, run=""):
            self._seen = event.seq
            if isinstance(event.body, StartChosen):
                self._names.add(event.body.model)
            elif isinstance(event.body, OperatorAction) and event.body.action == EXPORTED:
                self._names.add(event.body.subject)
        return self._names


def require_newest(last: Version, journal: Journal) -> None:
    """Raises CheckpointUnusable where the journal has a later round of this training, in whichever of its runs: it would be done
    again.
    """
    begun = journal.records(kind="run_started")
    runs = {last.training, *(record["run"] for record in begun if record["body"].get("resumes") == last.training)}
    finished = (record["round"] for run in runs for record in journal.records(run=run, kind="round_finished"))
    if (done := max(finished, default=0)) > last.round:
        raise CheckpointUnusable(
            f"run {last.training} finished round {done}, and of its models {last.name} is the newest that is whole",
            hint=f"edgefl models rollback {last.name} && edgefl run starts anew from it",
        )


def surplus(versions: Sequence[Version], sizes: Mapping[str, int], keep_bytes: int, pinned: Collection[str]) -> list[Version]:
    """What to delete so that the rest fits, oldest first. versions: oldest first; sizes: in bytes, by name.

    The newest, the best of each task and what is `pinned` stay whatever they take.
    """
    if not versions:
        return []
    best_ = {version.name for version in best(versions).values()}
    kept = {versions[-1].name, *best_, *pinned}
    total, count, removed = sum(sizes.values()), len(versions), []
    for version in versions:
        if total <= keep_bytes and count <= MOST:
            break
        if version.name not in kept:
            removed.append(version)
            total, count = total - sizes[version.name], count - 1
    return removed


def best(versions: Sequence[Version]) -> dict[str, Version]:
    """The version with the highest accuracy of each task, or with the least loss where nobody measures accuracy."""
    found: dict[str, Version] = {}
    for version in versions:
        rank = _rank(version)
        if rank is not None and (version.task not in found or rank >= (_rank(found[version.task]) or rank)):
            found[version.task] = version
    return found


def _rank(version: Version) -> tuple[int, float] | None:
    metrics = version.metrics
    if "accuracy" in metrics:
        return 1, metrics["accuracy"]
    return (0, -metrics["loss"]) if "loss" in metrics else None
