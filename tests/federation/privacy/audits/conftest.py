"""A subject that remembers: coins for labels, on which an audit must find every member."""

from pathlib import Path

import numpy as np
import pytest

from edgefl.federation.privacy.audits.subject import Subject
from edgefl.federation.privacy.plan import PrivacyTerms
from edgefl.federation.task import load_task

TASK = Path(__file__).parent / "coin_task.py"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    directory = tmp_path / "edge-01"
    directory.mkdir()
    x, y = rng.standard_normal((160, 32)).astype(np.float32), rng.integers(0, 2, 160).astype(np.int64)
    np.savez(directory / "records.npz", x=x, y=y)
    return directory


@pytest.fixture
def subject(data: Path) -> Subject:
    task = load_task(str(TASK))
    return Subject(task, task.settle({}), PrivacyTerms(8.0, 2.0, 1e-5, 1.0, 3), private=True, directories=[data])
