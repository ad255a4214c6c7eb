"""Values that are right alone and wrong together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edgefl.site.checks import mistakes
from edgefl.site.model import Site


def site(devices: int | list[dict[str, Any]] = 10, **sections: Any) -> Site:
    listed = [{"name": f"edge-{n:02}"} for n in range(devices)] if isinstance(devices, int) else devices
    return Site.model_validate({"name": "clinic", "devices": listed, **sections})


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 7, 8, 10, 20, 50])
def test_the_defaults_hold_for_any_number_of_devices(devices: int) -> None:
    assert list(mistakes(site(devices))) == []


MASKED = {"mode": "masked"}
HOMOMORPHIC = {"mode": "homomorphic"}
MEAN = {"rule": "mean"}
STATIC = {"module": "static"}
OPERATOR = {"operator_addresses": ["192.0.2.1"]}
HERE = [{"name": "edge-01", "address": "192.0.2.11"}]


@pytest.mark.parametrize(
    ("wrong", "location", "what"),
    [
        (site([{"name": "a"}, {"name": "a"}]), ("devices", 1, "name"), "another device's name"),
        (site([{"name": "coordinator"}]), ("devices", 0, "name"), "the coordinator's name"),
        (
            site([{"name": "a", "address": "10.77.0.12"}, {"name": "b", "address": "10.77.0.12"}]),
            ("devices", 1, "address"),
            "a's address already",
        ),
        (site([{"name": "a", "address": "10.78.0.12"}]), ("devices", 0, "address"), "outside the lab's network"),
        (site([{"name": "a", "address": "fe80::1"}]), ("devices", 0, "address"), "outside the lab's network"),
        (site([{"name": "a", "address": "10.77.0.1"}]), ("devices", 0, "address"), "the operator's own"),
        (site([{"name": "a", "address": "10.77.0.255"}]), ("devices", 0, "address"), "no host's address"),
        (site(6, infrastructure={"network": "10.77.0.1/29"}), ("infrastructure", "network"), "holds 5 hosts"),
        (site(1, infrastructure={"network": "10.77.0.0/24"}), ("infrastructure", "network"), "no host's address"),
        (
            site(HERE, infrastructure=STATIC, isolation=OPERATOR),
            ("coordinator",),
            "coordinator has no address",
        ),
        (
            site(HERE, infrastructure=STATIC, coordinator={"address": "192.0.2.10"}),
            ("isolation", "operator_addresses"),
            "shut you out",
        ),
        (
            site(
                [{**HERE[0], "data": "data"}],
                infrastructure=STATIC,
                isolation=OPERATOR,
                coordinator={"address": "192.0.2.10"},
            ),
            ("devices", 0, "data"),
            "an absolute path on edge-01",
        ),
        (site(infrastructure={"module": "own"}, isolation=OPERATOR), ("infrastructure", "module"), "`own` names no module"),
        (site(infrastructure={"source": "./machines"}), ("infrastructure", "source"), "lab has a module already"),
        (site(privacy={"epsilon_limit": 3}), ("privacy", "epsilon_limit"), "more than the limit of 3"),
        (
            site([{"name": "a", "epsilon_limit": 2}]),
            ("devices", 0, "epsilon_limit"),
            "more than a's own limit of 2",
        ),
        (
            site([{"name": "a", "epsilon_limit": 2, "epsilon_per_run": 3}]),
            ("devices", 0, "epsilon_limit"),
            "costs epsilon 3, more than a's own limit of 2",
        ),
        (
            site(privacy={"epsilon_limit": 500, "epsilon_per_run": 100}),
            ("privacy", "epsilon_per_run"),
            "the noise would be decorative",
        ),
        (site(4, aggregation={"rule": "krum"}), ("aggregation", "rule"), "needs at least 5 devices"),
        (site(8, aggregation={"rule": "multi-krum"}), ("run", "quorum"), "needs 7"),
        (site(8, aggregation={"rule": "trimmed-mean"}, run={"quorum": 0.5}), ("run", "quorum"), "needs 5"),
        (site(8, run={"quorum": 0.1}), ("run", "quorum"), "counts with 1 of 8"),
        (site(secure=MASKED), ("aggregation", "rule"), "guard judges single updates, and masked sums hide them"),
        (site(secure=HOMOMORPHIC), ("aggregation", "rule"), "guard judges single updates, and homomorphic sums hide them"),
        (site(secure={**HOMOMORPHIC, "bits": 8}, aggregation=MEAN), ("secure", "bits"), "own precision"),
        (site(secure={**HOMOMORPHIC, "keep": 0.1}, aggregation=MEAN), ("secure", "keep"), "every value"),
        (site(secure={**HOMOMORPHIC, "group_size": 2}, aggregation=MEAN), ("secure", "group_size"), "no rule judges groups"),
        (site(secure={**HOMOMORPHIC, "clip": 1000}, aggregation=MEAN), ("secure", "clip"), "can reach 10000"),
        (
            site(secure=HOMOMORPHIC, aggregation=MEAN, compression={"mode": "top-k"}),
            ("compression", "mode"),
            "do not add up under homomorphic sums",
        ),
        (site(secure={**MASKED, "group_size": 2}), ("secure", "group_size"), "are 5 groups, and guard against 3 malicious"),
        (site(secure={**MASKED, "group_size": 1}, aggregation=MEAN), ("secure", "group_size"), "is that update"),
        (site(secure={**MASKED, "group_size": 11}, aggregation=MEAN), ("secure", "group_size"), "the site has 10"),
        (site(2, secure=MASKED, aggregation=MEAN), ("secure", "mode"), "each would know the other's"),
        (
            site(257, secure=MASKED, aggregation=MEAN, infrastructure={"network": "10.76.0.1/16"}),
            ("secure", "group_size"),
            "256 are the most",
        ),
        (
            site(secure=MASKED, aggregation=MEAN, compression={"mode": "top-k"}),
            ("compression", "mode"),
            "own largest values do not add up",
        ),
        (site(secure=MASKED, aggregation=MEAN, compression={"mode": "quantised"}), ("compression", "mode"), "own scales"),
        (site(10, aggregation={"rule": "geometric-median"}), ("aggregation", "rule"), "alone is no defence"),
        (site(10, aggregation={"rule": "norm-clipping"}), ("aggregation", "rule"), "alone is no defence"),
        (site(10, aggregation={"rule": "z-score"}), ("aggregation", "rule"), "cannot fire"),
        (
            site(secure={**MASKED, "group_size": 2}, aggregation={"rule": "geometric-median", "byzantine": 0.2}),
            ("aggregation", "rule"),
            "geometric-median alone is no defence",
        ),
        (
            site(secure={**MASKED, "group_size": 2}, aggregation={"rule": "guard", "byzantine": 0.2, "mixing": "nearest"}),
            ("aggregation", "mixing"),
            "guard does not go with mixing",
        ),
        (
            site(secure=MASKED, aggregation={**MEAN, "mixing": "nearest"}),
            ("aggregation", "mixing"),
            "mean does not go with mixing",
        ),
        (site(10, aggregation={"mixing": "nearest"}), ("aggregation", "mixing"), "guard does not go with mixing"),
        (
            site(10, aggregation={"policy": {"quarantine_after": 11}}),
            ("aggregation", "policy", "quarantine_after"),
            "do not fit into a window of 10",
        ),
        (
            site(10, aggregation={"policy": {"suspect_after": 7}}),
            ("aggregation", "policy", "suspect_after"),
            "make no suspect before 7",
        ),
        (
            site(10, aggregation={"policy": {"clear_after": 12}}),
            ("aggregation", "policy", "clear_after"),
            "do not fit into a window of 10",
        ),
    ],
)
def test_a_contradiction_is_found_where_it_stands(wrong: Site, location: tuple[object, ...], what: str) -> None:
    found = list(mistakes(wrong))
    assert [tuple(place) for place, _, _ in found] == [location]
    assert what in found[0][1]


def test_without_privacy_no_budget_is_checked() -> None:
    assert list(mistakes(site(privacy={"mode": "none", "epsilon_limit": 1}))) == []


def test_a_device_with_a_small_budget_takes_a_small_share_of_it_a_run() -> None:
    assert list(mistakes(site([{"name": "a", "epsilon_limit": 2, "epsilon_per_run": 1}]))) == []


@pytest.mark.parametrize("weakened", [{"accountant": "gdp"}, {"poisson_sampling": False}, {"sigma": 0.001}])
def test_no_setting_weakens_the_accounting(weakened: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        site(privacy=weakened)


def test_the_hinted_quorum_is_enough() -> None:
    [(_, _, hint)] = mistakes(site(8, aggregation={"rule": "krum"}))
    quorum = float(hint.split()[1].rstrip(","))
    assert list(mistakes(site(8, aggregation={"rule": "krum"}, run={"quorum": quorum}))) == []


@pytest.mark.parametrize(
    ("devices", "group", "byzantine", "rule", "holds"),
    [
        (10, 2, 0.2, "median", True),
        (10, 2, 0.3, "median", False),
        (10, 3, 0.1, "guard", True),
        (10, 3, 0.2, "guard", False),
        (14, 2, 0.15, "krum", True),
        (12, 2, 0.2, "krum", False),
        (10, 5, 0.4, "mean", True),
    ],
)
def test_groups_go_with_a_rule_while_most_of_them_are_honest(
    devices: int, group: int, byzantine: float, rule: str, holds: bool
) -> None:
    found = list(
        mistakes(site(devices, secure={**MASKED, "group_size": group}, aggregation={"rule": rule, "byzantine": byzantine}))
    )
    malicious = int(byzantine * devices + 1e-9)
    assert holds == (malicious <= (devices // group - (3 if rule == "krum" else 1)) / 2 or rule == "mean")
    assert (found == []) == holds


def test_the_hinted_alternatives_work() -> None:
    [(_, _, hint)] = mistakes(site(secure=MASKED, aggregation={"byzantine": 0.2}))
    assert "secure.group_size: 2," in hint
    assert list(mistakes(site(secure={**MASKED, "group_size": 2}, aggregation={"byzantine": 0.2}))) == []
    assert list(mistakes(site(secure=MASKED, aggregation=MEAN))) == []
    small = {**MASKED, "keep": 0.1, "bits": 8}
    assert list(mistakes(site(secure=small, aggregation=MEAN, privacy={"mode": "dp-sgd"}))) == []
    assert list(mistakes(site(compression={"mode": "top-k"}, privacy={"mode": "dp-sgd"}))) == []


@pytest.mark.parametrize(
    "aggregation",
    [
        {"rule": "geometric-median", "mixing": "nearest"},
        {"rule": "geometric-median", "byzantine": 0},
        {"rule": "norm-clipping", "byzantine": 0},
        {"rule": "z-score", "byzantine": 0},
        {"rule": "nnm"},
        {"rule": "multi-krum", "mixing": "nearest", "byzantine": 0.2},
        {"policy": {"quarantine_after": None}},
    ],
)
def test_a_defence_that_is_one_or_none_that_claims_to_be_is_taken(aggregation: dict[str, Any]) -> None:
    assert list(mistakes(site(10, aggregation=aggregation))) == []


def test_a_geometric_median_of_groups_after_mixing_is_a_defence() -> None:
    mixed = {"rule": "geometric-median", "byzantine": 0.2, "mixing": "nearest"}
    assert list(mistakes(site(secure={**MASKED, "group_size": 2}, aggregation=mixed))) == []


def test_the_refusal_of_what_is_no_defence_names_what_works() -> None:
    [(_, _, hint)] = mistakes(site(10, aggregation={"rule": "geometric-median"}))
    assert hint.startswith("mixing: nearest before it, or rule: guard, nnm, trimmed-mean or multi-krum")
