"""Terms, and what is refused because it would promise nothing."""

import subprocess
import sys
from typing import Any

import pytest

from edgefl.federation.privacy.plan import PrivacyRefused, PrivacyTerms, plan, shape_of

PARAMETERS = {"batch_size": 512, "local_epochs": 4.0}
TERMS = PrivacyTerms(epsilon_limit=8.0, epsilon_per_run=4.0, delta=1e-5, max_grad_norm=1.0, rounds=10)
HOST: dict[str, Any] = {
    "privacy": {"mode": "dp-sgd", "epsilon_limit": 8.0, "epsilon_per_run": 4.0, "delta": 1e-5, "max_grad_norm": 1.0},
    "run": {"rounds": 10},
    "epsilon_limit": None,
}


def test_a_device_obeys_the_smaller_of_its_own_limit_and_the_sites() -> None:
    assert PrivacyTerms.from_host(HOST) == TERMS
    for own, expected in ((5.0, 5.0), (20.0, 8.0)):
        terms = PrivacyTerms.from_host(HOST | {"epsilon_limit": own})
        assert terms is not None
        assert terms.epsilon_limit == expected
    for mode in ("none", "client"):
        assert PrivacyTerms.from_host(HOST | {"privacy": {"mode": mode}}) is None


@pytest.mark.slow
def test_a_device_with_a_smaller_share_of_its_own_a_run_trains_with_more_noise() -> None:
    own = PrivacyTerms.from_host(HOST | {"epsilon_per_run": 1.0})
    assert own is not None
    assert own.epsilon_per_run == 1.0
    assert plan(own, 4000, PARAMETERS).sigma > 2 * plan(TERMS, 4000, PARAMETERS).sigma
    larger = PrivacyTerms.from_host(HOST | {"epsilon_per_run": 6.0})
    assert larger == TERMS


@pytest.mark.slow
def test_a_plan_keeps_the_runs_target_over_all_its_rounds() -> None:
    planned = plan(TERMS, 4000, PARAMETERS)
    assert (planned.sampling_rate, planned.steps) == (0.128, 31)
    assert planned.expected_batch == pytest.approx(512)
    assert 3.95 < planned.run_cost <= 4.0
    assert planned.round_cost < planned.run_cost


@pytest.mark.parametrize(("records", "expected"), [(100, (1.0, 4)), (512, (1.0, 4)), (5120, (0.1, 40))])
def test_a_batch_is_never_more_than_all_records(records: int, expected: tuple[float, int]) -> None:
    assert shape_of(records, PARAMETERS) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("terms", "records", "why"),
    [
        (TERMS, 20, "too few"),
        (TERMS, 0, "too few"),
        (PrivacyTerms(8, 4, 1e-3, 1.0, 10), 4000, "delta 0.001 promises nothing"),
        (PrivacyTerms(5000, 1000, 1e-5, 1.0, 1), 4000, "decorative"),
        (PrivacyTerms(8, 1e-6, 1e-5, 1.0, 10), 4000, "with any noise"),
    ],
)
def test_terms_that_promise_nothing_are_refused(terms: PrivacyTerms, records: int, why: str) -> None:
    with pytest.raises(PrivacyRefused, match=why) as refused:
        plan(terms, records, PARAMETERS)
    assert refused.value.hint


@pytest.mark.parametrize("rounds", [1, 10])
@pytest.mark.parametrize("records", [64, 4000, 40_000])
def test_decorative_noise_is_refused_for_a_round_as_for_a_run(rounds: int, records: int) -> None:
    with pytest.raises(PrivacyRefused, match="decorative"):
        plan(PrivacyTerms(5000, 1000, 1e-6, 1.0, rounds), records, PARAMETERS)


@pytest.mark.slow
def test_terms_are_known_without_torch() -> None:
    rooms = "edgefl.federation.privacy.plan, edgefl.federation.task, edgefl.federation.aggregation.limits"
    code = f"import sys, {rooms}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
