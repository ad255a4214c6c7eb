"""One record moves a private step by its bound at most, and the noise is as large as was charged and cannot be guessed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.utils.data import TensorDataset

from edgefl.federation.privacy import dpsgd
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyTerms

RECORDS, FEATURES = 64, 50


def noise(monkeypatch: pytest.MonkeyPatch, entropy: bytes) -> torch.Tensor:
    monkeypatch.setattr(dpsgd.os, "urandom", lambda count: entropy)
    return torch.normal(0, 1, (2000,), generator=dpsgd.secret_generator())


def test_every_word_of_the_state_comes_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    entropy = bytearray(np.random.default_rng(1).bytes(4 * 624))
    first = noise(monkeypatch, bytes(entropy))
    assert torch.equal(first, noise(monkeypatch, bytes(entropy)))
    for word in (1, 300, 623):
        changed = bytearray(entropy)
        changed[4 * word] ^= 1
        assert not torch.equal(first, noise(monkeypatch, bytes(changed)))


def test_the_noise_is_standard_normal_and_new_each_time() -> None:
    one, two = (torch.normal(0, 1, (100_000,), generator=dpsgd.secret_generator()) for _ in range(2))
    assert not torch.equal(one, two)
    for drawn in (one, two):
        assert abs(float(drawn.mean())) < 0.02
        assert abs(float(drawn.std()) - 1) < 0.02


def planned(*, sigma: float, norm: float = 0.7, rate: float = 1.0, steps: int = 1) -> PrivacyPlan:
    """What `private` is given; the noise is said, not solved for."""
    return PrivacyPlan(PrivacyTerms(8.0, 4.0, 1e-5, norm, 10), RECORDS, rate, steps, sigma)


def moved(records: TensorDataset, plan: PrivacyPlan, rate: float, *, learns: bool = True) -> torch.Tensor:
    """How far training moves a small network, always from the same start, as one vector; every sampled batch is a step.

    learns: whether the step follows the batch's gradients, or comes without any.
    """
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(FEATURES, 100), nn.Tanh(), nn.Linear(100, 60), nn.Tanh(), nn.Linear(60, 2))
    start = parameters_to_vector(network.parameters()).detach().clone()
    training = dpsgd.private(network, torch.optim.SGD(network.parameters(), rate), nn.CrossEntropyLoss(), records, plan)
    for x, y in training.batches:
        training.optimizer.zero_grad()
        if learns:
            training.loss(training.model(x), y).backward()
        training.optimizer.step()
    return parameters_to_vector(network.parameters()).detach() - start


@pytest.fixture
def records() -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(RECORDS, FEATURES, generator=generator)
    return TensorDataset(x, (x[:, 0] > 0).long())


def test_no_records_gradient_is_kept(records: TensorDataset) -> None:
    """Ghost clipping finds their norms without them; hooks keep one of the model's size for each record."""
    network = nn.Sequential(nn.Linear(FEATURES, 20), nn.Tanh(), nn.Linear(20, 2))
    training = dpsgd.private(
        network, torch.optim.SGD(network.parameters(), 0.1), nn.CrossEntropyLoss(), records, planned(sigma=1.0)
    )
    [(x, y)] = training.batches
    training.loss(training.model(x), y).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert getattr(parameter, "grad_sample", None) is None


@pytest.mark.parametrize("huge", [1e3, 1e6])
def test_one_record_moves_a_step_by_its_bound_and_no_more_however_huge_it_is(records: TensorDataset, huge: float) -> None:
    rate, plan = 0.5, planned(sigma=0.0)
    x, y = (tensor.clone() for tensor in records.tensors)
    x[-1] *= huge
    with_it, without = (moved(TensorDataset(x[:end], y[:end]), plan, rate) for end in (RECORDS, RECORDS - 1))
    bound = rate * plan.terms.max_grad_norm / plan.expected_batch
    influence = float((with_it - without).norm())
    assert influence <= bound * 1.001
    assert influence > bound * 0.99, "it is clipped to the bound, not away: the test would see a bound that is twice as large"
    assert float(with_it.norm()) <= RECORDS * bound * 1.001, "nor do all of them together move more than a bound each"


@pytest.mark.parametrize("learns", [True, False])
def test_batches_without_records_are_noise_of_the_size_that_was_charged_and_nothing_else(
    records: TensorDataset, learns: bool
) -> None:
    rate, steps = 2e-7, 16
    plan = planned(sigma=1.3, rate=1e-9, steps=steps)
    drift = moved(records, plan, rate, learns=learns)
    expected = rate * plan.sigma * plan.terms.max_grad_norm / plan.expected_batch * math.sqrt(steps)
    sampling_error = 1 / math.sqrt(2 * drift.numel())
    assert float(drift.std()) == pytest.approx(expected, rel=5 * sampling_error)
    assert abs(float(drift.mean())) < 5 * expected / math.sqrt(drift.numel())


def test_noise_comes_on_top_of_what_the_records_say(records: TensorDataset) -> None:
    rate, sigma = 0.5, 2.0
    quiet, noisy = (moved(records, planned(sigma=strength), rate) for strength in (0.0, sigma))
    plan = planned(sigma=sigma)
    expected = rate * sigma * plan.terms.max_grad_norm / plan.expected_batch
    noise_ = noisy - quiet
    assert float(noise_.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * noise_.numel()))
