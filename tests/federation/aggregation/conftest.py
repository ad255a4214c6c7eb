"""Aggregation with the compiled kernels and without."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefl.federation.aggregation import kernels
from edgefl.federation.aggregation.kernels import Kernels


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with kernels that were compiled just now."""
    if shutil.which(kernels.COMPILER) is None:
        pytest.skip("there is no C compiler")
    directory = tmp_path_factory.mktemp("kernels")
    kernels.build(directory)
    return directory


@pytest.fixture(scope="session")
def compiled(built: Path) -> Kernels:
    """The kernels for this machine."""
    found = kernels.compiled(built)
    assert found is not None
    return found


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def either(request: pytest.FixtureRequest) -> Iterator[None]:
    """All that a module's tests say holds with the kernels and with NumPy alone."""
    found = request.getfixturevalue("compiled") if request.param == "compiled" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "compiled", lambda: found)
        yield
