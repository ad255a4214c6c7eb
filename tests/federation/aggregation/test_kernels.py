"""The compiled kernels against NumPy, for each instruction set that this machine has, and what is never loaded."""

from __future__ import annotations

import ctypes
import mmap
import platform
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.federation.aggregation import columns, kernels
from edgefl.federation.aggregation.kernels import Kernels
from edgefl.federation.aggregation.networks import NETWORK_MOST

pytestmark = pytest.mark.slow  # each level is compiled anew

LEVELS = {"best": (), "avx2": ("-DWITHOUT_AVX512",), "any": ("-DWITHOUT_AVX512", "-DWITHOUT_AVX2")}
ROWS, COLUMNS = st.integers(1, 70), st.integers(1, 3000)


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """The kernels as another processor runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "FLAGS", (*kernels.FLAGS, *LEVELS[request.param]))
        directory = tmp_path_factory.mktemp(request.param)
        assert kernels.build(directory) not in built.iterdir()
        found = kernels.compiled(directory)
    assert found is not None
    return found


def updates(seed: int, rows: int, width: int) -> np.ndarray:
    """Rows that lie further apart than they are long, many values of them equal."""
    values = np.random.default_rng(seed).standard_normal((rows, width + 7)).astype(np.float32).round(1)
    return values[:, 3 : width + 3]


@given(seed=st.integers(0, 99), rows=ROWS, width=COLUMNS, share=st.floats(0, 0.499))
@settings(max_examples=40, deadline=None)
def test_a_trimmed_mean_is_that_of_the_sorted_middle(level: Kernels, seed: int, rows: int, width: int, share: float) -> None:
    values, trim = updates(seed, rows, width), int(share * rows)
    before = values.copy()
    middle = np.sort(values, axis=0)[trim : rows - trim].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(level.trimmed(values, trim), middle, atol=1e-6)
    np.testing.assert_array_equal(values, before)


@given(shape=st.tuples(ROWS, ROWS, COLUMNS), seed=st.integers(0, 99), share=st.floats(0, 0.499))
@settings(max_examples=40, deadline=None)
def test_rows_are_mixed_before_they_are_trimmed(level: Kernels, shape: tuple[int, int, int], seed: int, share: float) -> None:
    mixed, rows, width = shape
    values, trim = updates(seed, rows, width), int(share * mixed)
    mixing = np.random.default_rng(seed).random((mixed, rows), np.float32)
    middle = np.sort(mixing.astype(np.float64) @ values, axis=0)[trim : mixed - trim].mean(axis=0)
    np.testing.assert_allclose(level.trimmed(values, trim, mixing), middle, atol=1e-4)


@given(seed=st.integers(0, 99), rows=ROWS, width=COLUMNS)
@settings(max_examples=40, deadline=None)
def test_products_are_those_of_float64(level: Kernels, seed: int, rows: int, width: int) -> None:
    values = updates(seed, rows, width)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(level.products(values), wide @ wide.T, rtol=1e-5, atol=1e-3)


@given(seed=st.integers(0, 99), rows=ROWS, width=COLUMNS)
@settings(max_examples=20, deadline=None)
def test_a_weighted_sum_is_that_of_float64_and_leaves_out_what_weighs_nothing(
    level: Kernels, seed: int, rows: int, width: int
) -> None:
    values, weights = updates(seed, rows, width), np.random.default_rng(seed).random(rows, np.float32).round(1)
    weights[0] = 0
    wanted = weights.astype(np.float64) @ values.astype(np.float64)
    values[0] = np.nan
    np.testing.assert_allclose(level.weighted(values, weights), wanted, atol=1e-4)


def fenced(rows: int, width: int) -> np.ndarray:
    """Rows behind which memory ends: whoever reads on dies."""
    size = -(-4 * rows * width // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    fence = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size)
    assert ctypes.CDLL(None).mprotect(fence, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    values = np.frombuffer(memory, np.float32, rows * width, size - 4 * rows * width).reshape(rows, width)
    values[:] = updates(2, rows, width)
    return values


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (4, 63), (7, 65), (11, 1027), (16, 64), (50, 2049)])
def test_nothing_is_read_behind_the_last_row(level: Kernels, rows: int, width: int) -> None:
    values = fenced(rows, width)
    np.testing.assert_array_equal(level.trimmed(values, (rows - 1) // 2), np.median(values, axis=0))
    same = np.eye(rows, dtype=np.float32)
    np.testing.assert_array_equal(level.trimmed(values, (rows - 1) // 2, same), np.median(values, axis=0))
    np.testing.assert_allclose(level.weighted(values, np.ones(rows, np.float32)), values.sum(axis=0), atol=1e-4)
    np.testing.assert_allclose(np.diag(level.products(values)), np.square(values).sum(axis=1), rtol=1e-5)


def test_columns_that_do_not_lie_side_by_side_are_read_all_the_same(compiled: Kernels) -> None:
    values = updates(1, 9, 400)
    np.testing.assert_array_equal(compiled.trimmed(values[:, ::2], 2), compiled.trimmed(values, 2)[::2])
    mixing = np.random.default_rng(1).random((9, 18), np.float32)[:, ::2]
    np.testing.assert_array_equal(compiled.trimmed(values, 2, mixing), compiled.trimmed(values, 2, mixing.copy()))
    np.testing.assert_array_equal(compiled.products(values[:, ::2]), compiled.products(values[:, ::2].copy()))


@pytest.mark.parametrize("rows", [2, 10, 16, 21, 31, 32, 33, 50, 64])
def test_with_and_without_kernels_the_result_is_the_same(compiled: Kernels, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    values = np.random.default_rng(rows).standard_normal((rows, 10_007), dtype=np.float32)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for way, kernel in (("compiled", compiled), ("numpy", None)):
        monkeypatch.setattr(kernels, "compiled", lambda kernel=kernel: kernel)
        found[way] = columns.median(values), columns.trimmed_mean(values, rows // 5)
    np.testing.assert_array_equal(found["compiled"][0], found["numpy"][0])
    # More rows are sorted by NumPy, and added up in another order.
    np.testing.assert_allclose(found["compiled"][1], found["numpy"][1], atol=0 if 10 <= rows <= NETWORK_MOST else 1e-6)


def test_kernels_of_another_version_or_processor_are_not_loaded(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.compiled(built) is not None
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "riscv64")
        kernels.compiled.cache_clear()
        assert kernels.compiled(built) is None
    monkeypatch.setattr(kernels, "SOURCES", ("kernels.c",))
    kernels.compiled.cache_clear()
    assert kernels.compiled(built) is None


def test_what_is_no_library_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / kernels.name()).write_bytes(b"\x7fELF, and then nothing")
    assert kernels.compiled(tmp_path) is None


def test_compiling_leaves_one_file_that_needs_no_other(built: Path, tmp_path: Path) -> None:
    (tmp_path / "kernels-0123456789ab-x86_64.so").touch()
    made = kernels.build(tmp_path)
    assert list(tmp_path.iterdir()) == [made]
    assert made.read_bytes() == (built / made.name).read_bytes(), "bundles are the same for the same input"
    assert b"GLIBC" not in made.read_bytes()


def test_a_machine_without_a_compiler_is_told_who_does_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert kernels.main() == 0
    assert "aggregation will be done by NumPy, several times slower: there is no C compiler" in capsys.readouterr().err


def test_source_that_does_not_compile_is_refused_and_leaves_nothing(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "FLAGS", (*kernels.FLAGS, "-march=pdp-11"))
    with pytest.raises(kernels.NotCompiled, match=r"refused kernels\.c"):
        kernels.build(tmp_path)
    assert not list(tmp_path.iterdir())


def test_which_code_aggregates_is_said(compiled: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda: compiled)
    assert kernels.used() == f"compiled kernels, {platform.machine()}"
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    assert kernels.used() == f"NumPy, no kernels are compiled for {platform.machine()}"
