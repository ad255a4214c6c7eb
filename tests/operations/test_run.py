"""What `edgefl run` says of the run before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest

from edgefl.events.schema import Event, ModelPrivacySpent, RoundFinished, RoundStarted, RunFinished, RunStarted
from edgefl.monitor.state import FederationState
from edgefl.operations.run import overlooked, progress_of, resumable


def after(rounds: int, end: Literal["completed", "stopped", "failed"] | None) -> FederationState:
    """A run of three rounds of which so many were done."""
    said = [(0, RunStarted(site="s", site_hash="", task="t", rounds=3, devices=["a"], quorum=1, rule="mean"))]
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
        (FederationState(), {"pardon": ["a"]}, []),
    ],
)
def test_what_was_asked_and_does_not_happen_is_said(state: FederationState, overrides: dict, says: list[str]) -> None:
    assert [warned.what for warned in overlooked(state, overrides)] == says
