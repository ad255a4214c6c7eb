"""What is no update is said to be none, with the reason; everything that the lab's attackers send in that way is caught."""

from typing import Any

import numpy as np
import pytest

from edgefl.federation.aggregation.validate import check_arrays, check_claims
from edgefl.federation.aggregation.vectors import Template
from edgefl.lab.attacks import ATTACKS, Sent

START = {"layer.weight": np.ones((3, 2), np.float32), "layer.bias": np.zeros(3, np.float32)}
TEMPLATE = Template.of(START)


def problem(arrays: Any = None, samples: Any = 100, metrics: Any = None, claimed_before: int | None = None) -> str:
    claimed = {"loss": 0.5} if metrics is None else metrics
    found = check_arrays(START if arrays is None else arrays, TEMPLATE) or check_claims(
        samples, claimed, ("loss",), claimed_before=claimed_before
    )
    return "" if found is None else f"{found.reason}: {found.detail}"


def test_an_honest_update_has_no_problem() -> None:
    assert not problem()
    assert not problem(samples=np.int64(100), metrics={"loss": np.float32(0.5)}, claimed_before=90)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_enough(value: float) -> None:
    spoiled = START["layer.weight"].copy()
    spoiled[2, 1] = value
    assert problem({**START, "layer.weight": spoiled}) == "not_finite: layer.weight holds 1 values that are not finite"


def test_values_whose_sum_overflows_are_finite_all_the_same() -> None:
    assert not problem({**START, "layer.bias": np.full(3, np.finfo(np.float32).max, np.float32)})


def test_other_names_shapes_and_types_are_said() -> None:
    assert problem({"layer.bias": START["layer.bias"]}).startswith("keys: missing ['layer.weight']")
    assert problem({**START, "extra": START["layer.bias"]}) == "keys: unexpected ['extra']"
    assert problem({**START, "layer.bias": np.zeros((3, 1), np.float32)}) == "shape: layer.bias is (3, 1), not (3,)"
    assert problem({**START, "layer.bias": np.zeros(3)}) == "shape: layer.bias is float64, not float32"


@pytest.mark.parametrize("samples", [0, -5, 10**12, 1.5, True, "many", None])
def test_a_count_that_cannot_be_true_is_refused(samples: object) -> None:
    assert problem(samples=samples).startswith("samples:")


def test_records_do_not_multiply_within_a_run() -> None:
    assert problem(samples=1000, claimed_before=100) == "samples: 1000 records now, 100 before in the same run"


@pytest.mark.parametrize("metrics", [{}, {"loss": 1.0, "surprise": 1.0}, {"loss": float("nan")}, {"loss": "low"}, {"loss": True}])
def test_other_metrics_than_promised_are_refused(metrics: dict[str, Any]) -> None:
    assert problem(metrics=metrics).startswith("metrics:")


@pytest.mark.parametrize(
    ("attack", "reason"), [("nan", "not_finite"), ("shape", "shape"), ("metrics", "metrics"), ("samples", "samples")]
)
def test_the_labs_malformed_replies_are_caught(attack: str, reason: str) -> None:
    honest = Sent({name: array + 1 for name, array in START.items()}, 4000, {"loss": 0.5})
    sent = ATTACKS[attack](honest, START, np.random.default_rng(0))
    assert problem(sent.arrays, sent.samples, sent.metrics, claimed_before=4000).startswith(reason)


def test_a_delta_goes_back_to_the_model_that_it_came_from() -> None:
    moved = {name: array + np.float32(0.25) for name, array in START.items()}
    delta = TEMPLATE.delta(moved, START)
    assert delta.dtype == np.float32
    assert delta.shape == (TEMPLATE.size,) == (9,)
    for name, array in TEMPLATE.moved(START, delta).items():
        np.testing.assert_array_equal(array, moved[name])
