"""Which budgets end before a run does."""

from __future__ import annotations

from edgefl.monitor.device import DeviceRow, Epsilon
from edgefl.monitor.state import FederationState
from edgefl.operations.budgets import shortages, unlasting
from edgefl.site.model import Site


def test_a_budget_that_ends_before_the_run_is_said_with_its_round() -> None:
    left = {"a": 6, "b": 10, "c": 0, "d": None}
    rows = {name: DeviceRow(name=name, epsilon=Epsilon(rounds_left=rounds)) for name, rounds in left.items()}
    found = {warning.subject: warning.what for warning in shortages(FederationState(devices=rows), [*left, "new"], 10, "run")}
    assert found == {
        "a": "its privacy budget runs out in round 7 of 10",
        "c": "its privacy budget covers no round",
    }


def test_the_budget_that_counts_is_that_of_the_sites_mode() -> None:
    rows = {"a": DeviceRow(name="a", epsilon=Epsilon(rounds_left=3))}

    def said(mode: str, left: int | None) -> dict[str, str]:
        state = FederationState(devices=rows, models=None if left is None else Epsilon(rounds_left=left))
        site = Site.model_validate({"name": "s", "devices": [{"name": "a"}], "privacy": {"mode": mode}})
        return {warning.subject: warning.what for warning in unlasting(site, state, 10, "run")}

    assert said("dp-sgd", 0) == {"a": "its privacy budget runs out in round 4 of 10"}
    assert said("none", 0) == {}
    assert said("client", None) == said("client", 10) == {}
    assert said("client", 4) == {"the models": "the coordinator's privacy budget runs out in round 5 of 10"}
    assert said("client", 0) == {"the models": "the coordinator's privacy budget covers no round"}
