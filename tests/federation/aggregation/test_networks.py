"""Sorting networks by the 0-1 principle: what sorts zeros and ones sorts everything."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
import pytest

from edgefl.federation.aggregation.networks import Comparison, Crossing, Keep, crossings, trimming_network


def through(network: Iterable[Comparison | Crossing], values: np.ndarray) -> np.ndarray:
    """The values, a column each, after every comparison; what was dropped is NaN, and stays it wherever it is compared again."""
    places = values.astype(float)
    for step in network:
        whole = [(step.low, step.high, step.keep)] if isinstance(step, Comparison) else pairs(step)
        for low, high, keep in whole:
            smaller, larger = np.minimum(places[low], places[high]), np.maximum(places[low], places[high])
            places[low] = smaller if keep & Keep.LOW else np.nan
            places[high] = larger if keep & Keep.HIGH else np.nan
    return places


def pairs(crossing: Crossing) -> list[tuple[int, int, Keep]]:
    a, b, c, d = crossing
    return [(a, c, Keep.BOTH), (b, d, Keep.BOTH), (b, c, Keep.BOTH)]


@pytest.mark.parametrize("count", range(1, 11))
def test_a_pruned_network_leaves_the_middle_values_in_the_middle(count: int) -> None:
    bits = np.array(list(product((0, 1), repeat=count))).T
    for trim in range((count - 1) // 2 + 1):
        network = trimming_network(count, trim)
        wanted = np.sort(bits, axis=0)[trim : count - trim]
        for steps in (network, crossings(network)):
            np.testing.assert_array_equal(np.sort(through(steps, bits)[trim : count - trim], axis=0), wanted)


@pytest.mark.parametrize("run", [2, 4, 8])
@pytest.mark.parametrize("count", range(1, 13))
def test_runs_that_are_sorted_already_need_fewer_comparisons(count: int, run: int) -> None:
    bits = np.array(list(product((0, 1), repeat=count))).T
    whole = count // run * run
    given = bits.copy()
    for first in range(0, whole, run):
        given[first : first + run].sort(axis=0)
    for trim in range((count - 1) // 2 + 1):
        network = trimming_network(count, trim, run)
        np.testing.assert_array_equal(
            np.sort(through(network, given)[trim : count - trim], axis=0), np.sort(bits, axis=0)[trim : count - trim]
        )
        assert len(network) <= len(trimming_network(count, trim))


@pytest.mark.parametrize("count", [13, 32, 50, 77, 200])
def test_crossings_are_the_same_comparisons_in_an_order_that_changes_nothing(count: int) -> None:
    values = np.random.default_rng(count).permuted(np.tile(np.arange(count), (20, 1)), axis=1).T
    for trim in (1, count // 5, (count - 1) // 2):
        network = trimming_network(count, trim)
        steps = list(crossings(network))
        compared = [
            pair for step in steps for pair in (pairs(step) if isinstance(step, tuple) else [(step.low, step.high, step.keep)])
        ]
        assert sorted(compared) == sorted((step.low, step.high, step.keep) for step in network)
        np.testing.assert_array_equal(through(steps, values), through(network, values))


def test_most_comparisons_of_many_values_are_in_crossings() -> None:
    network = trimming_network(200, 40)
    assert 3 * sum(isinstance(step, tuple) for step in crossings(network)) > 0.7 * len(network)
