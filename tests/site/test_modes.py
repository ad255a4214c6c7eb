"""Modes that undo each other are refused, each in its place."""

from __future__ import annotations

import pytest

from edgefl.site import modes
from edgefl.site.model import Site


@pytest.mark.parametrize(
    ("run", "secure", "where"),
    [
        ({"mode": "asynchronous"}, {"mode": "masked"}, ("run", "mode")),
        ({"mode": "asynchronous", "selection": {"strategy": "random"}}, {}, ("run", "mode")),
        ({"selection": {"strategy": "random"}}, {"mode": "masked"}, ("run", "selection", "strategy")),
    ],
)
def test_selection_pace_and_sums_that_cancel_each_other_are_refused(
    run: dict[str, object], secure: dict[str, object], where: tuple[str, ...]
) -> None:
    values = {"name": "s", "devices": [{"name": f"d-{n}"} for n in range(9)], "run": run, "secure": secure}
    site = Site.model_validate({**values, "aggregation": {"rule": "mean"}})
    assert where in [place for rule in (modes.own_pace, modes.selected_sums) for place, _, _ in rule(site)]
