"""What `edgefl run` says of the run before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from edgefl.events.schema import Body, Event, ModelPrivacySpent, RoundFinished, RoundStarted, RunFinished, RunStarted
from edgefl.monitor.state import FederationState
from edgefl.operations.run import RunFailed, overlooked, progress_of, resumable, run
from edgefl.progress import Progress, Warned
from edgefl.site.model import Site

SITE = Site.model_validate({"name": "s", "devices": [{"name": "a"}]})
STARTED = RunStarted(site="s", site_hash="", task="t", rounds=3, devices=["a"], quorum=1, rule="mean")


def after(rounds: int, end: Literal["completed", "stopped", "failed"] | None) -> FederationState:
    """A run of three rounds of which so many were done."""
    said: list[tuple[int, Body]] = [(0, STARTED)]
    counts = {"bytes_up": 0, "bytes_down": 0, "seconds": {}, "accuracy": 0.5, "loss": 0.5}
    lists = {"participants": ["a"], "dropped": [], "rejected": [], "flagged": []}
    for number in range(1, rounds + 1):
        said += [(number, RoundStarted(devices=["a"], deadline_s=1)), (number, RoundFinished(**counts, **lists))]
    said += [(0, RunFinished(status=end))] if end else [(rounds + 1, RoundStarted(devices=["a"], deadline_s=1))]
    state = FederationState.enrolled("s", ["a"])
    for seq, (number, body) in enumerate(said, start=1):
        state = state.apply(
            Event(seq=seq, at=datetime.now(UTC), run="7", round=number, version=1, body=body, previous="", hash="")
        )
    return state


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (FederationState(), ""),
        (after(1, None), ""),
        (after(3, "completed"), ""),
        (after(3, "failed"), ""),
        (after(2, "failed"), "run 7 died after round 2 of 3"),
        (after(0, "stopped"), "run 7 was stopped after round 0 of 3"),
    ],
)
def test_a_run_that_died_can_be_resumed_and_that_is_said(state: FederationState, says: str) -> None:
    assert resumable(state) == says


def test_what_the_models_have_spent_is_said_in_each_round() -> None:
    body = ModelPrivacySpent(spent=1.25, limit=8, delta=1e-5, sigma=3, run_spent=1, rounds_left=4, clip=1, next_clip=1)
    event = Event(seq=1, at=datetime.now(UTC), run="7", round=2, version=1, body=body, previous="", hash="")
    shown = progress_of(event, 3)
    assert shown is not None
    assert (shown.subject, shown.what) == ("round 2", "the models have spent epsilon 1.25 of 8; 4 rounds are left")


@pytest.mark.parametrize(
    ("state", "overrides", "says"),
    [
        (after(1, None), {}, []),
        (after(1, None), {"pardon": ["a"], "rounds": 9}, ["run 7 stays as it was begun: nothing comes of pardon, rounds"]),
        (after(2, "failed"), {"rounds": 9}, ["run 7 died after round 2 of 3; this is a new run"]),
        (after(2, "failed"), {"resume": "last"}, []),
        (after(2, None), {"resume": "last", "rounds": 9}, []),
        (after(2, None), {"resume": "6"}, ["run 7 stays as it was begun: nothing comes of resume"]),
        (FederationState(), {"pardon": ["a"]}, []),
    ],
)
def test_what_was_asked_and_does_not_happen_is_said(state: FederationState, overrides: dict, says: list[str]) -> None:
    assert [warned.what for warned in overlooked(state, overrides)] == says


@dataclass
class Coordinator:
    """A coordinator whose run 7 is going by its journal, and ends as soon as somebody follows it."""

    end: Literal["completed", "stopped", "failed"]
    journal: list[tuple[str, Body]] = field(default_factory=lambda: [("7", STARTED)])
    asked: list[dict[str, Any]] = field(default_factory=list)

    def _events(self) -> list[Event]:
        about = {"at": datetime.now(UTC), "round": 0, "version": 1, "previous": "", "hash": ""}
        return [Event(seq=seq, run=name, body=body, **about) for seq, (name, body) in enumerate(self.journal, start=1)]

    async def status(self, *, updates: bool = True) -> SimpleNamespace:
        return SimpleNamespace(state=FederationState.enrolled("s", ["a"]).apply_all(self._events()))

    async def events(self, after: int) -> AsyncIterator[Event]:
        if not self.asked:
            self.journal.append(("7", RunFinished(status=self.end, reason="its ServerApp was killed")))
        for event in self._events()[after:]:
            yield event

    async def start_run(self, overrides: dict[str, Any], why: str) -> str:
        self.asked.append(dict(overrides))
        self.journal += [("8", STARTED), ("8", RunFinished(status="completed", accuracy=0.5))]
        return "8"


async def ran(coordinator: Coordinator, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    @asynccontextmanager
    async def watching(site: Site) -> AsyncIterator[Coordinator]:
        yield coordinator

    async def remember(site: Site, monitor: Coordinator) -> None:
        assert monitor is coordinator

    monkeypatch.setattr("edgefl.operations.run.watching", watching)
    monkeypatch.setattr("edgefl.operations.run.remember", remember)
    monkeypatch.setattr("edgefl.operations.run.inventory_of", lambda site: None)
    return [event async for event in run(SITE, overrides)]


@pytest.mark.parametrize("meant", ["last", "7"])
async def test_a_dead_run_whose_death_nobody_has_seen_yet_is_gone_on_with(meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = Coordinator("failed")
    said = await ran(coordinator, {"resume": meant, "rounds": 9}, monkeypatch)
    assert coordinator.asked == [{"resume": meant, "rounds": 9}]
    assert [event.what for event in said if isinstance(event, Warned)] == ["run 7 died: its ServerApp was killed"]
    assert said[-1].detail["run"] == "8"


async def test_a_run_that_lives_is_followed_to_its_end_and_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = Coordinator("completed")
    said = await ran(coordinator, {"resume": "last"}, monkeypatch)
    assert (coordinator.asked, said[-1].detail["run"]) == ([], "7")


@pytest.mark.parametrize("overrides", [{}, {"resume": "6"}])
async def test_a_run_that_dies_while_it_is_followed_is_gone_on_with_only_where_it_is_meant(
    overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = Coordinator("failed")
    with pytest.raises(RunFailed, match="run 7 failed: its ServerApp was killed"):
        await ran(coordinator, overrides, monkeypatch)
    assert coordinator.asked == []
