"""Which budgets end before a run does."""

from __future__ import annotations

from edgefl.monitor.device import DeviceRow, Epsilon
from edgefl.monitor.state import FederationState
from edgefl.operations.budgets import shortages


def test_a_budget_that_ends_before_the_run_is_said_with_its_round() -> None:
    left = {"a": 6, "b": 10, "c": 0, "d": None}
    rows = {name: DeviceRow(name=name, epsilon=Epsilon(rounds_left=rounds)) for name, rounds in left.items()}
    found = {warning.subject: warning.what for warning in shortages(FederationState(devices=rows), [*left, "new"], 10, "run")}
    assert found == {
        "a": "its privacy budget runs out in round 7 of 10",
        "c": "its privacy budget covers no round",
    }
