"""Stacked training is what each model alone would do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgefl.federation.outline import TaskInvalid
from edgefl.federation.privacy.audits.shadows import Recipe, Shadows, _poisson

MLP = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3))
CNN = nn.Sequential(
    nn.Unflatten(1, (1, 3)), nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3, bias=False)
)


class Shared(nn.Module):
    """Uses one layer twice: its records' gradients cannot be read off one call."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.one(torch.tanh(self.one(x.flatten(1))))))


def records(n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 4, generator=generator) * 3, torch.randint(0, 3, (n,), generator=generator)


def clipped_sum(model: nn.Module, x: torch.Tensor, y: torch.Tensor, bound: float | None) -> dict[str, torch.Tensor]:
    """One record at a time, with autograd as it is."""
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for one, label in zip(x, y, strict=True):
        model.zero_grad()
        nn.functional.cross_entropy(model(one[None]), label[None]).backward()
        norm = torch.sqrt(sum(value.grad.square().sum() for value in model.parameters()))
        for name, value in model.named_parameters():
            total[name] += value.grad * (1.0 if bound is None else min(1.0, bound / float(norm)))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("model", [MLP, CNN, Shared()], ids=["mlp", "cnn", "shared"])
@pytest.mark.parametrize("bound", [0.7, None])
def test_every_models_step_is_its_own_clipped_sum(model, bound):
    x, y = records()
    members = torch.rand(3, 30, generator=torch.Generator().manual_seed(2)) < 0.5
    recipe = Recipe(1.0, 1, 1, 0.0, bound, expected_batch=10.0, learning_rate=0.5)
    (stack,) = Shadows(model, nn.CrossEntropyLoss()).train(x, y, members, recipe, torch.Generator())
    for place, member in enumerate(members):
        total = clipped_sum(model, x[member], y[member], bound)
        for name, value in model.named_parameters():
            torch.testing.assert_close(stack[name][place], value - 0.5 * total[name] / 10, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_momentum_begins_anew_with_each_round():
    x, y = records()
    members = torch.ones(1, 30, dtype=torch.bool)
    recipe = Recipe(1.0, 3, 2, 0.0, None, expected_batch=30.0, learning_rate=0.1, momentum=0.9)
    stack = list(Shadows(MLP, nn.CrossEntropyLoss()).train(x, y, members, recipe, torch.Generator()))[-1]
    alone = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3))
    alone.load_state_dict(MLP.state_dict())
    for _ in range(2):
        optimizer = torch.optim.SGD(alone.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(alone(x), y).backward()
            optimizer.step()
    for name, value in alone.named_parameters():
        torch.testing.assert_close(stack[name][0], value, rtol=1e-4, atol=1e-5)


def test_noise_has_the_spread_that_was_paid_for():
    x, y = records()
    recipe = Recipe(1.0, 1, 1, sigma=2.0, max_grad_norm=0.5, expected_batch=4.0, learning_rate=1.0)
    members = torch.zeros(400, 30, dtype=torch.bool)  # nobody's record: what is left is noise
    (stack,) = Shadows(MLP, nn.CrossEntropyLoss()).train(x, y, members, recipe, torch.Generator().manual_seed(5))
    moved = torch.cat([(stack[name] - value.detach()).flatten() for name, value in MLP.named_parameters()])
    assert float(moved.std()) == pytest.approx(2.0 * 0.5 / 4.0, rel=0.02)


def test_records_are_drawn_among_the_members_alone_and_as_often_as_was_said():
    members = torch.rand(50, 400, generator=torch.Generator().manual_seed(1)) < 0.5
    drawn, mask = _poisson(members, 0.2, torch.Generator().manual_seed(2))
    assert members.gather(1, drawn)[mask.bool()].all()
    assert float(mask.sum() / members.sum()) == pytest.approx(0.2, rel=0.05)


def test_a_model_that_mixes_records_is_refused_in_the_users_words():
    mixing = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3))
    recipe = Recipe(1.0, 1, 1, 0.0, 1.0, 10.0, 0.1)
    with pytest.raises(TaskInvalid, match="cannot be trained at once") as refused:
        list(
            Shadows(mixing, nn.CrossEntropyLoss()).train(
                *records(), torch.ones(2, 30, dtype=torch.bool), recipe, torch.Generator()
            )
        )
    assert "batch normalisation" in refused.value.hint
