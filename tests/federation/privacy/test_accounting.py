"""Our composition against Opacus' own, used directly."""

import pytest
from opacus.accountants import PRVAccountant

from edgefl.federation.privacy.accounting import LARGEST_EXACT, Steps, epsilon, rounds_left, solve_sigma

DELTA = 1e-5


def opacus(*history: Steps) -> float:
    accountant = PRVAccountant()
    accountant.history = [(steps.sigma, steps.sampling_rate, steps.count) for steps in history]
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.slow
@pytest.mark.parametrize(
    "history",
    [
        (Steps(1.1, 0.05, 20),),
        (Steps(2.6, 0.128, 320),),
        (Steps(1.0, 0.02, 100), Steps(1.4, 0.05, 40), Steps(2.0, 0.1, 10)),
    ],
)
def test_epsilon_is_opacus_own_to_1e_9(history: tuple[Steps, ...]) -> None:
    assert epsilon(history, DELTA) == pytest.approx(opacus(*history), abs=1e-9)


def test_order_and_portions_do_not_matter() -> None:
    one, other = Steps(1.2, 0.05, 30), Steps(1.7, 0.04, 10)
    whole = epsilon([one, other], DELTA)
    portions = [Steps(1.7, 0.04, 4), Steps(1.2, 0.05, 10), Steps(1.7, 0.04, 6), Steps(1.2, 0.05, 20)]
    assert epsilon(portions, DELTA) == pytest.approx(whole, abs=1e-9)
    assert epsilon([], DELTA) == 0


def test_composition_is_less_than_the_sum_and_more_than_the_last() -> None:
    a_round = Steps(1.1, 0.05, 20)
    assert epsilon([a_round], DELTA) < epsilon([a_round] * 20, DELTA) < 20 * epsilon([a_round], DELTA)


@pytest.mark.slow
def test_the_solved_sigma_is_the_smallest_that_keeps_the_target() -> None:
    sigma = solve_sigma(4.0, DELTA, 0.128, 320)
    assert epsilon([Steps(sigma, 0.128, 320)], DELTA) <= 4.0 < epsilon([Steps(sigma - 0.002, 0.128, 320)], DELTA)


def test_a_target_that_no_noise_reaches_is_said_to_be_so() -> None:
    with pytest.raises(ValueError, match="with any noise"):
        solve_sigma(1e-4, DELTA, 1.0, 1_000_000)


@pytest.mark.slow
def test_the_forecast_is_the_last_round_that_fits_whatever_the_guess() -> None:
    a_round, spent = Steps(2.6, 0.128, 32), [Steps(2.6, 0.128, 64)]
    left = rounds_left(spent, a_round, DELTA, 4.0)
    assert epsilon(spent + [a_round] * left, DELTA) <= 4.0 < epsilon(spent + [a_round] * (left + 1), DELTA)
    assert rounds_left(spent, a_round, DELTA, 4.0, guess=left) == rounds_left(spent, a_round, DELTA, 4.0, guess=3) == left
    assert rounds_left(spent, a_round, DELTA, 0.5) == 0


def test_a_limit_that_protects_nobody_does_not_stop_the_clock() -> None:
    decorative = [Steps(0.35, 0.1, 5000)]
    assert epsilon(decorative, DELTA) > LARGEST_EXACT
    assert rounds_left([], Steps(2.6, 0.128, 32), DELTA, float("inf")) > 1000
