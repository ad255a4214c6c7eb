"""One numeric thread per test process: more only wait for each other on small models, and spin while they do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.federation.signers import Signers

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure(config: pytest.Config) -> None:
    """Torch warns of each ghost-clipped step; privacy/dpsgd.py says why that is right."""
    config.addinivalue_line("filterwarnings", "ignore:Full backward hook is firing")


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    from tests.federation.signers import Signers  # it brings NumPy, which reads the variables above

    return Signers(tmp_path_factory.mktemp("signers"))
