"""The coordinator's models as operators name, compare, take and choose them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgefl.errors import ExitCode
from edgefl.events.journal import Journal
from edgefl.events.schema import OperatorAction, RoundFinished, StartChosen
from edgefl.federation.checkpoint import Models, Version
from edgefl.federation.retention import EXPORTED, best, require_newest
from edgefl.federation.rounds import Plan, recorded
from edgefl.monitor.errors import Refused
from edgefl.monitor.state import FederationState

LAST, BEST = "last", "best"
"""What an operator may say instead of a version's name."""


class NoSuchModel(Refused):
    """No version, or no run, has that name."""

    http_status = 404
    exit_code = ExitCode.USAGE


class NothingLeft(Refused):
    """The run is done: there is nothing to resume."""

    http_status = 409
    exit_code = ExitCode.USAGE


class Library:
    """Every version that the coordinator keeps. Calls read the disk: not for the event loop's own thread."""

    def __init__(self, models: Models, journal: Journal) -> None:
        self._models = models
        self._journal = journal

    def listed(self, state: FederationState) -> dict[str, Any]:
        """All of them, oldest first, in short."""
        versions = self._models.versions()
        marks = _Marks(versions, state, self._exported())
        return {"models": [marks.brief(version) for version in versions], "start": state.start}

    def card(self, name: str, state: FederationState) -> dict[str, Any]:
        """Everything about one version, with its place in the journal. Raises NoSuchModel."""
        versions = self._models.versions()
        version = resolve(name, versions)
        return self._card(version, _Marks(versions, state, self._exported()))

    def _card(self, version: Version, marks: _Marks) -> dict[str, Any]:
        return {**marks.brief(version), "lineage": self._lineage(version), "privacy": _privacy(version)}

    def compared(self, one: str, other: str, state: FederationState) -> dict[str, Any]:
        """Two versions side by side: metrics, layers, lineage. Raises NoSuchModel; CheckpointUnusable when one is damaged."""
        from edgefl.federation.comparison import compare

        versions = self._models.versions()
        a, b = resolve(one, versions), resolve(other, versions)
        marks = _Marks(versions, state, self._exported())
        found = asdict(compare(self._models.arrays(a), self._models.arrays(b)))
        names = sorted(a.metrics.keys() | b.metrics.keys())
        return {
            "a": self._card(a, marks),
            "b": self._card(b, marks),
            "metrics": {name: _beside(a.metrics.get(name), b.metrics.get(name)) for name in names},
            "relation": relation(a, b, versions),
            **found,
        }

    def file(self, name: str) -> Path:
        """Where a version's model lies, checked against its hash. Raises NoSuchModel, CheckpointUnusable."""
        version = resolve(name, self._models.versions())
        self._models.content(version)
        return self._models.path(version.run, version.round)

    def export(self, name: str, who: str, state: FederationState) -> dict[str, Any]:
        """The card of a version that leaves the coordinator; from now on it stays. Raises NoSuchModel, CheckpointUnusable."""
        versions, exported = self._models.versions(), self._exported()
        version = resolve(name, versions)
        self._models.content(version)
        if version.name not in exported:
            said = OperatorAction(who=who, action=EXPORTED, subject=version.name, detail={"sha256": version.sha256})
            self._journal.append(said)
        return self._card(version, _Marks(versions, state, exported | {version.name}))

    def choose(self, name: str, who: str, why: str, state: FederationState) -> dict[str, Any]:
        """Have the next run start from a version, or, with an empty name, from the task's own model again.

        Raises NoSuchModel, CheckpointUnusable: a damaged model starts nothing.
        """
        version = resolve(name, self._models.versions()) if name else None
        if version is not None:
            self._models.content(version)
        chosen = version.name if version else ""
        if chosen != state.start:
            self._journal.append(StartChosen(who=who, model=chosen, sha256=version.sha256 if version else "", why=why))
        return {"start": chosen, "before": state.start, "changed": chosen != state.start}

    def prepared(self, overrides: Mapping[str, Any], state: FederationState) -> tuple[dict[str, Any], Plan | None]:
        """A run's overrides with what it goes on from: the training to resume, and its plan, or the model that was chosen.

        Raises NoSuchModel, NothingLeft; CheckpointUnusable where a round would be done again.
        """
        given = dict(overrides)
        if "resume" not in given:
            if start := str(given.get("start") or state.start):
                given["start"] = self._chosen(start).name
            return given, None
        last = self._resumable(str(given["resume"]), state)
        require_newest(last, self._journal)
        plan = recorded(last.plan)
        rounds = given.get("rounds", plan.rounds)
        if isinstance(rounds, int) and rounds <= last.round:
            raise NothingLeft(
                f"run {last.training} has done all of its {plan.rounds} rounds",
                hint=f"edgefl run --resume {last.training} --rounds {last.round + 1} goes further",
            )
        return {**given, "resume": last.training}, plan

    def _chosen(self, start: str) -> Version:
        try:
            return resolve(start, self._models.versions())
        except NoSuchModel as error:
            raise NoSuchModel(
                f"the run was to start from {start}: {error.what}", hint="edgefl models rollback --undo, or choose another"
            ) from error

    def _resumable(self, run: str, state: FederationState) -> Version:
        if run in {"", LAST}:
            if state.run is None:
                raise NoSuchModel("there was no run yet", hint="edgefl run")
            run = state.run.id
        rows = [*state.runs, *([state.run] if state.run else [])]
        first = {row.id: row.resumes or row.id for row in rows}
        versions = self._models.versions()
        known = {version.run: version.training for version in versions} | {
            version.training: version.training for version in versions
        }
        known |= {of: training for of, training in first.items() if training in known}
        matches = [run] if run in known else [name for name in known if run and name.startswith(run)]
        if len({known[name] for name in matches}) != 1:
            raise NoSuchModel(f"run {run} left nothing to go on from", hint=_nearest(run, list(known)))
        training = known[matches[0]]
        return [version for version in versions if version.training == training][-1]

    def _lineage(self, version: Version) -> dict[str, Any]:
        fields = ("training", "parent", "parent_sha256", "site", "site_hash", "task", "rule", "optimiser")
        finished = version.finished
        took_part = ("participants", "flagged", "rejected", "dropped")
        return {
            **{name: getattr(version, name) for name in fields},
            "plan": {name: version.plan.get(name) for name in ("rounds", "seed", "byzantine", "parameters", "devices")},
            **{name: list(getattr(finished, name)) if finished else [] for name in took_part},
            "journal": {"seq": version.journal_seq, "hash": version.journal_hash, "agrees": self._agrees(version)},
        }

    def _agrees(self, version: Version) -> bool:
        """Whether the journal has the head that the record names, and the round's result with this very model."""
        before = version.journal_seq - 1
        heads = self._journal.page(max(0, before), until=version.journal_seq, size=1) if version.journal_seq else []
        if version.journal_seq and (not heads or heads[0]["hash"] != version.journal_hash):
            return False
        if version.finished is None:
            return True
        for event in self._journal.events(version.journal_seq, run=version.run):
            if event.round == version.round and isinstance(event.body, RoundFinished):
                return event.body.model_sha256 == version.sha256
        return False

    def _exported(self) -> set[str]:
        return {
            event.body.subject
            for event in self._journal.events(run="")
            if isinstance(event.body, OperatorAction) and event.body.action == EXPORTED
        }


class _Marks:
    """What is special about which version."""

    def __init__(self, versions: Sequence[Version], state: FederationState, exported: set[str]) -> None:
        self._last = versions[-1].name if versions else ""
        self._best = {version.name for version in best(versions).values()}
        self._start, self._exported = state.start, exported

    def brief(self, version: Version) -> dict[str, Any]:
        marks = {
            LAST: version.name == self._last,
            BEST: version.name in self._best,
            "exported": version.name in self._exported,
            "start": version.name == self._start,
        }
        return {
            "name": version.name,
            "run": version.run,
            "round": version.round,
            "at": version.at.isoformat(),
            "sha256": version.sha256,
            "bytes": version.bytes,
            "metrics": version.metrics,
            "parent": version.parent,
            "marks": [name for name, holds in marks.items() if holds],
        }


def resolve(name: str, versions: Sequence[Version]) -> Version:
    """The version that `RUN/ROUND`, `RUN` (its newest), `last` or `best` means; a run's number may be cut where it stays unique.

    Raises NoSuchModel, with the nearest one.
    """
    if not versions:
        raise NoSuchModel("the coordinator has no models yet", hint="edgefl run")
    if name == LAST:
        return versions[-1]
    if name == BEST and (found := best(versions)):
        return found.get(versions[-1].task) or next(reversed(found.values()))
    run, _, round_ = name.partition("/")
    runs = {version.run for version in versions if run and (version.run == run or version.run.startswith(run))}
    if run in runs:
        runs = {run}
    of_run = [version for version in versions if version.run in runs]
    if len(runs) > 1:
        raise NoSuchModel(f"{run} is the beginning of {len(runs)} runs", hint=f"one of {', '.join(sorted(runs))}")
    if not of_run:
        raise NoSuchModel(f"there is no model {name!r}", hint=_nearest(name, [version.name for version in versions]))
    if not round_ and "/" not in name:
        return of_run[-1]
    if round_.isdecimal() and len(round_) < 10:
        wanted = int(round_)
        nearest = min(of_run, key=lambda version: abs(version.round - wanted))
        if nearest.round == wanted:
            return nearest
        raise NoSuchModel(f"run {of_run[0].run} has no model of round {wanted}", hint=f"the nearest is {nearest.name}")
    raise NoSuchModel(f"{round_!r} is no round of run {of_run[0].run}", hint=f"the last one is {of_run[-1].name}")


def relation(a: Version, b: Version, versions: Sequence[Version]) -> dict[str, Any]:
    """How two versions are related: the newest one that both come from, and how many rounds each has been trained since.

    `ancestor` is empty where the records that would say so are gone.
    """
    known = {version.name: version for version in versions}
    paths = [_ancestors(version, known) for version in (a, b)]
    common = next((name for name in paths[0] if name in paths[1]), "")
    steps = [sum(known[name].round > 0 for name in path[: path.index(common)]) if common else None for path in paths]
    return {"ancestor": common, "rounds_a": steps[0], "rounds_b": steps[1]}


def _ancestors(version: Version, known: Mapping[str, Version]) -> list[str]:
    path = [version.name]
    while (parent := known[path[-1]].parent) in known and parent not in path:
        path.append(parent)
    return path


def _beside(a: float | None, b: float | None) -> dict[str, float | None]:
    return {"a": a, "b": b, "change": None if a is None or b is None else b - a}


def _privacy(version: Version) -> dict[str, Any]:
    """What the devices' own ledgers said when the version was made, and the coordinator's (`models`, None where it has none);
    `spent` is the most of any of them.
    """
    devices = {name: said.model_dump(mode="json", exclude={"type", "device"}) for name, said in version.privacy.items()}
    models, spent = version.released, [said.spent for said in version.privacy.values()]
    spent += [models.spent] if models else []
    released = models.model_dump(mode="json", exclude={"type"}) if models else None
    return {"spent": max(spent, default=None), "devices": devices, "models": released}


def _nearest(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.0)
    return f"the nearest is {close[0]}" if close else "edgefl models list"
