"""Modes that undo each other are refused, each in its place."""

from __future__ import annotations

import pytest

from edgefl.site.checks import mistakes
from edgefl.site.model import Site


@pytest.mark.parametrize(
    ("run", "secure", "where"),
    [
        ({"mode": "asynchronous"}, {"mode": "masked"}, ("run", "mode")),
        ({"mode": "asynchronous"}, {"mode": "masked", "group_size": 3}, ("run", "mode")),
        ({"mode": "asynchronous"}, {"mode": "homomorphic"}, ("run", "mode")),
        ({"mode": "asynchronous", "selection": {"strategy": "random"}}, {}, ("run", "mode")),
        ({"selection": {"strategy": "random"}}, {"mode": "masked"}, ("run", "selection", "strategy")),
        ({"selection": {"strategy": "performance"}}, {"mode": "masked", "group_size": 3}, ("run", "selection", "strategy")),
        ({"selection": {"strategy": "resources"}}, {"mode": "homomorphic"}, ("run", "selection", "strategy")),
    ],
)
def test_selection_pace_and_sums_that_cancel_each_other_are_refused(
    run: dict[str, object], secure: dict[str, object], where: tuple[str, ...]
) -> None:
    values = {"name": "s", "devices": [{"name": f"d-{n}"} for n in range(9)], "run": run, "secure": secure}
    site = Site.model_validate({**values, "aggregation": {"rule": "mean"}})
    assert where in [place for place, _, _ in mistakes(site)]


@pytest.mark.parametrize("secure", [{"mode": "masked"}, {"mode": "masked", "group_size": 3}, {"mode": "homomorphic"}])
def test_sums_of_all_devices_at_one_pace_are_right(secure: dict[str, object]) -> None:
    values = {"name": "s", "devices": [{"name": f"d-{n}"} for n in range(9)], "secure": secure}
    assert list(mistakes(Site.model_validate({**values, "aggregation": {"rule": "mean"}}))) == []


CLIENT = {"mode": "client"}


def found(devices: int | list[dict[str, object]] = 10, **sections: object) -> dict[tuple[object, ...], str]:
    """Where something is wrong with a site whose devices are protected whole, with what would be right."""
    listed = [{"name": f"d-{number}"} for number in range(devices)] if isinstance(devices, int) else devices
    given = {"privacy": CLIENT, "aggregation": {"rule": "mean"}, **sections}
    return {place: works for place, _, works in mistakes(Site.model_validate({"name": "s", "devices": listed, **given}))}


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"run": {"mode": "asynchronous"}},
        {"run": {"selection": {"strategy": "random"}}},
        {"compression": {"mode": "top-k", "down": "quantised"}},
        {"aggregation": {"rule": "mean", "optimiser": {"name": "adam"}}},
        {"task": {"personal_layers": ["head.*"]}},
    ],
)
def test_privacy_of_whole_devices_goes_with_what_leaves_its_bound(sections: dict[str, object]) -> None:
    assert found(**sections) == {}


@pytest.mark.parametrize(
    ("sections", "where", "works"),
    [
        ({"aggregation": {"rule": "guard"}}, ("aggregation", "rule"), "privacy.mode: dp-sgd, with any rule"),
        ({"aggregation": {"rule": "norm-clipping", "byzantine": 0}}, ("aggregation", "rule"), "rule: mean"),
        ({"secure": {"mode": "masked"}}, ("secure", "mode"), "privacy.mode: dp-sgd, which goes with sums"),
        ({"secure": {"mode": "homomorphic"}}, ("secure", "mode"), "secure.mode: none"),
        ({"run": {"selection": {"strategy": "performance"}}}, ("run", "selection", "strategy"), "strategy: all or random"),
        ({"run": {"selection": {"strategy": "resources"}}}, ("run", "selection", "strategy"), "strategy: all or random"),
        ({"devices": [{"name": "a", "epsilon_limit": 2}]}, ("devices", 0, "epsilon_limit"), "leave it out"),
        ({"devices": 200, "privacy": {**CLIENT, "delta": 9e-3}}, ("privacy", "delta"), "below 0.005"),
        ({"privacy": {**CLIENT, "epsilon_per_run": 9, "epsilon_limit": 8}}, ("privacy", "epsilon_limit"), "raise it"),
        ({"privacy": {**CLIENT, "epsilon_per_run": 90, "epsilon_limit": 90}}, ("privacy", "epsilon_per_run"), "at most 30"),
    ],
)
def test_what_leaves_privacy_of_whole_devices_without_a_bound_is_refused_and_says_what_works(
    sections: dict[str, object], where: tuple[object, ...], works: str
) -> None:
    said = found(**sections)
    assert list(said) == [where]
    assert works in said[where]
