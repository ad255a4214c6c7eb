"""FedProx: the pull to the global model, against the closed form that a constant gradient has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from edgefl.federation.local import initial_arrays, train_locally
from edgefl.federation.outline import TaskInvalid
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import PrivacyTerms
from edgefl.federation.proximal import attract
from edgefl.federation.task import Task, load_task

SOURCE = (Path(__file__).parent / "tiny_task.py").read_text()


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(rate=st.floats(0.01, 0.5), mu=st.floats(0.01, 1.5), steps=st.integers(1, 20), slope=st.floats(-3, 3))
def test_under_a_constant_gradient_the_steps_end_where_the_closed_form_says(
    rate: float, mu: float, steps: int, slope: float
) -> None:
    # w_k - w_0 = -(c / mu) * (1 - (1 - rate * mu)^k): the distance stays bounded by c / mu, where plain SGD walks off.
    weight = nn.Parameter(torch.tensor([0.7, -1.2], dtype=torch.float64))
    start = weight.detach().clone()
    optimizer = optim.SGD([weight], lr=rate)
    attract(optimizer, [weight], mu)
    for _ in range(steps):
        optimizer.zero_grad()
        (slope * weight.sum()).backward()
        optimizer.step()
    expected = -slope / mu * (1 - (1 - rate * mu) ** steps)
    np.testing.assert_allclose((weight.detach() - start).numpy(), np.full(2, expected), rtol=1e-9, atol=1e-12)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "task.py").write_text(SOURCE)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 4)).astype(np.float32)
    np.savez(tmp_path / "records.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    return load_task("./task.py", tmp_path)


def moved(task: Task, directory: Path, mu: float, *, private: bool = False) -> float:
    terms = PrivacyTerms(8.0, 8.0, 1e-5, 1.0, 1) if private else None
    ledger = Ledger(directory / f"ledger-{mu}.db") if private else None
    start = initial_arrays(task, {}, 1)
    after = train_locally(task, start, {"proximal_mu": mu}, directory, terms, ledger, "run", 1, 1).arrays
    return float(np.sqrt(sum(np.square(after[name] - start[name]).sum() for name in start)))


def test_the_stronger_the_pull_the_nearer_a_device_stays(task: Task, tmp_path: Path) -> None:
    free, some, strong = (moved(task, tmp_path, mu) for mu in (0.0, 0.5, 2.5))
    assert free > some > strong > 0


@pytest.mark.slow
def test_under_differential_privacy_the_pull_is_added_after_clipping(task: Task, tmp_path: Path) -> None:
    # Were it clipped with the records' gradients it could never outweigh the noise; at rate * mu = 1 each step starts anew
    # from the global model, so the distance is that of one step, however many there are.
    free, held = moved(task, tmp_path, 0.0, private=True), moved(task, tmp_path, 1 / 0.3, private=True)
    assert held < free / 1.5


def test_a_pull_below_zero_is_refused(task: Task) -> None:
    with pytest.raises(TaskInvalid, match="must be 0 or above"):
        task.settle({"proximal_mu": -0.1})
