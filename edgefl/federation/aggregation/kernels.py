"""The compiled kernels (kernels.c): sums, trimmed means and inner products faster than NumPy's, where a compiler was there.

`python -m edgefl.federation.aggregation.kernels` compiles them beside this module, as `make install` does, and hosts get the file
with the rest of the code. Nothing needs it: without it NumPy does the same. Its name tells its source, flags and architecture, so
one of another version or for another processor is never loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation.networks import NETWORK_MOST, Comparison, crossings, trimming_network
from edgefl.federation.aggregation.vectors import Matrix, Vector

HERE = Path(__file__).parent
SOURCES = ("kernels.c", "kernels.h")
COMPILER = "cc"
FLAGS = ("-std=gnu11", "-O3", "-ffinite-math-only", "-fno-signed-zeros", "-fno-trapping-math", "-ffreestanding", "-fPIC")
LINKED = ("-shared", "-nostdlib", "-lgcc")
"""Not the C library: the hosts' may be older than the operator's."""
MOST_ROWS = 1 << 12
"""A block of as many rows still fits a thread's stack."""
CROSSING = 4
"""Beside the values of Keep, what a step of the network is."""
RUN = 16
"""Rows that are sorted at once, without steps; as kernels.c has it."""

Steps = NDArray[np.uint16]


class NotCompiled(Exception):
    """There is no compiler, or it refused the source."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The compiled functions. They let go of the interpreter, read finite float32 values and change none of them."""

    library: ctypes.CDLL

    def trimmed(self, rows: Matrix, trim: int, mixing: Matrix | None = None) -> Vector:
        """Mean of each column without its `trim` smallest and largest values, (p,). rows: (n, p), of at most MOST_ROWS rows.
        mixing: (m, n) float32, of as many rows at most; when given, `mixing @ rows` is trimmed instead.
        """
        fit, weights = _fit(rows), None if mixing is None else np.ascontiguousarray(mixing)
        address, count = (None, len(rows)) if weights is None else (weights.ctypes.data, len(weights))
        runs, steps = _plan(count, trim)
        out = np.empty(fit.shape[1], np.float32)
        network = runs, steps.ctypes.data, len(steps)
        self.library.edgefl_trimmed(*_described(fit), address, count, *network, trim, out.ctypes.data)
        return out

    def products(self, rows: Matrix) -> NDArray[np.float64]:
        """Inner products of the rows, (n, n): float32 over 1024 columns at a time, float64 between them."""
        fit = _fit(rows)
        out = np.zeros((len(fit), len(fit)))
        self.library.edgefl_products(*_described(fit), out.ctypes.data)
        return out

    def weighted(self, rows: Matrix, weights: Vector) -> Vector:
        """Sum of the rows times their weights, (p,); rows of weight zero are not read. weights: (n,) float32."""
        fit = _fit(rows)
        out = np.empty(fit.shape[1], np.float32)
        self.library.edgefl_weighted(*_described(fit), weights.ctypes.data, out.ctypes.data)
        return out


@cache
def compiled(directory: Path = HERE) -> Kernels | None:
    """The kernels that were compiled from this source for this machine; None where there are none."""
    try:
        library = ctypes.CDLL(str(directory / name()))
    except OSError:
        return None
    whole, pointer = ctypes.c_long, ctypes.c_void_p
    library.edgefl_trimmed.argtypes = (pointer, *[whole] * 3, pointer, whole, whole, pointer, whole, whole, pointer)
    library.edgefl_products.argtypes = (pointer, whole, whole, whole, pointer)
    library.edgefl_weighted.argtypes = (pointer, whole, whole, whole, pointer, pointer)
    for function in (library.edgefl_trimmed, library.edgefl_products, library.edgefl_weighted):
        function.restype = None
    return Kernels(library)


def name() -> str:
    """What the compiled file is called, here and now."""
    told = b"".join((HERE / source).read_bytes() for source in SOURCES) + " ".join((*FLAGS, *LINKED)).encode()
    return f"kernels-{hashlib.sha256(told).hexdigest()[:12]}-{platform.machine()}.so"


def build(directory: Path = HERE) -> Path:
    """Compile them, and remove what an earlier version left. Raises NotCompiled."""
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise NotCompiled(f"there is no C compiler ({COMPILER})")
    target = directory / name()
    fresh = target.with_suffix(f".{os.getpid()}")
    made = subprocess.run(
        [compiler, *FLAGS, "-o", str(fresh), str(HERE / SOURCES[0]), *LINKED], capture_output=True, text=True, check=False
    )
    if made.returncode:
        fresh.unlink(missing_ok=True)
        raise NotCompiled(f"{compiler} refused {SOURCES[0]}: {made.stderr.strip()[-500:]}")
    for old in directory.glob("kernels-*.so"):
        old.unlink()
    return fresh.replace(target)


def used() -> str:
    """Which code aggregates here, in words."""
    return f"compiled kernels, {platform.machine()}" if compiled() else f"NumPy, no kernels are compiled for {platform.machine()}"


@lru_cache(maxsize=64)
def _plan(count: int, trim: int) -> tuple[int, Steps]:
    """How many runs of rows are sorted at once, and the steps after that. Few rows go through the very network that NumPy would
    take them through, so that the middle values are added up in the same order.
    """
    runs = count // RUN if count > NETWORK_MOST else 0
    steps = [
        (step.keep, step.low, step.high, 0, 0) if isinstance(step, Comparison) else (CROSSING, *step)
        for step in crossings(trimming_network(count, trim, RUN if runs else 1))
    ]
    return runs, np.array(steps, np.uint16).reshape(len(steps), 5)


def _fit(rows: Matrix) -> Matrix:
    """The same rows such that each one's values lie one after the other."""
    return rows if rows.strides[1] == rows.itemsize else np.ascontiguousarray(rows)


def _described(rows: Matrix) -> tuple[int, int, int, int]:
    return rows.ctypes.data, rows.strides[0] // rows.itemsize, *rows.shape


def main() -> int:
    """Compile them and say so; a machine without a compiler is no failure."""
    try:
        made = build()
    except NotCompiled as error:
        sys.stderr.write(f"! aggregation will be done by NumPy, several times slower: {error}\n")
        return 0
    sys.stdout.write(f"✔ {made.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
