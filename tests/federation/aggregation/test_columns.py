"""Coordinate-wise kernels against NumPy's own sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgefl.federation.aggregation import columns

pytestmark = pytest.mark.usefixtures("either")
VALUES = st.floats(-1e3, 1e3, width=32)


@st.composite
def updates(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    rows = draw(st.integers(1, 40))
    trim = draw(st.integers(0, (rows - 1) // 2))
    return draw(arrays(np.float32, (rows, draw(st.integers(1, 9))), elements=VALUES)), trim


@given(updates())
@settings(max_examples=60, deadline=None)
def test_the_trimmed_mean_is_the_mean_of_the_sorted_middle(drawn: tuple[np.ndarray, int]) -> None:
    deltas, trim = drawn
    middle = np.sort(deltas, axis=0)[trim : len(deltas) - trim].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(columns.trimmed_mean(deltas, trim), middle, rtol=1e-4, atol=1e-2)


@pytest.mark.slow
@given(updates())
@settings(max_examples=60, deadline=None)
def test_the_median_is_numpys(drawn: tuple[np.ndarray, int]) -> None:
    np.testing.assert_allclose(columns.median(drawn[0]), np.median(drawn[0], axis=0), rtol=1e-5, atol=1e-3)


def test_columns_beyond_one_chunk_are_all_reduced() -> None:
    deltas = np.random.default_rng(3).standard_normal((7, 200_003), dtype=np.float32)
    np.testing.assert_allclose(columns.median(deltas), np.median(deltas, axis=0), atol=1e-6)


def test_mixing_within_chunks_equals_mixing_before() -> None:
    rng = np.random.default_rng(4)
    deltas, mixing = rng.standard_normal((9, 1000), dtype=np.float32), rng.random((6, 9), dtype=np.float32)
    np.testing.assert_allclose(columns.trimmed_mean(deltas, 1, mixing), columns.trimmed_mean(mixing @ deltas, 1), atol=1e-5)


def test_updates_are_not_changed_by_reducing_them() -> None:
    deltas = np.random.default_rng(5).standard_normal((12, 500), dtype=np.float32)
    before = deltas.copy()
    columns.trimmed_mean(deltas, 3)
    columns.median(deltas)
    np.testing.assert_array_equal(deltas, before)


@pytest.mark.parametrize("trim", [-1, 3])
def test_trimming_everything_is_refused(trim: int) -> None:
    with pytest.raises(ValueError, match="cannot trim"):
        columns.trimmed_mean(np.zeros((6, 2), np.float32), trim)
