"""The noise of differential privacy cannot be guessed by trying seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefl.federation.privacy import dpsgd


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
