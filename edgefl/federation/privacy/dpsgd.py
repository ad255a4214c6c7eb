"""DP-SGD with Opacus: ghost clipping, Poisson sampling, and as many steps as were charged, no more.

Ghost clipping finds each record's gradient norm without keeping its gradient: 2-3 times plain SGD's cost, where hooks take up
to 40. Source: Li et al., 2022, arXiv:2110.05679; Opacus 1.6, `grad_sample_mode="ghost"`.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from opacus.grad_sample.utils import prepare_module
from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from opacus.validators import ModuleValidator
from torch import nn, optim
from torch.utils.data import Dataset

from edgefl.federation.batches import Batches, poisson
from edgefl.federation.privacy.parts import SHARE, Room, headroom, in_parts, kept_of, require_steps
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyRefused

# Ghost clipping runs backward hooks on models whose inputs need no gradient, which is right and what torch warns of at each
# step.
warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)


_WORDS = 624
"""Of the Mersenne Twister's state; torch keeps each 32-bit word in 64 bits."""
_FIRST_WORD = 24
"""Where they begin in torch's state, behind the seed (8 bytes), two flags (4 each) and the next word's place (8)."""


@dataclass(frozen=True, slots=True)
class PrivateTraining:
    """What a task's `train` gets in place of the plain model, batches, optimizer and loss."""

    model: nn.Module
    batches: Batches
    optimizer: Any
    loss: Any
    room: Room

    def end(self) -> None:
        """After the task's `train`: raise PrivacyRefused where what it did is not what was charged."""
        require_steps(self.optimizer, self.room)


def private(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss: nn.Module,
    dataset: Dataset[Any],
    plan: PrivacyPlan,
    *,
    room: Room | None = None,
) -> PrivateTraining:
    """Wrap a task's parts so that the steps it takes are those that the plan paid for.

    The model's own parameters are trained in place. Sampling and noise come from generators seeded by the kernel, never from
    the run's seed: who knows the seed must not know the noise. A step beyond `plan.steps` raises PrivacyRefused before it
    changes the model. A sampled batch comes in parts where the device has no memory for all of it at once; room: how much there
    is, otherwise measured. Raises PrivacyRefused for a model that mixes records (batch normalisation) or a loss that is not a
    mean over records.
    """
    check_private(model)
    if getattr(loss, "reduction", None) != "mean":
        raise PrivacyRefused("the task's loss must be a torch loss with reduction='mean'", hint="e.g. nn.CrossEntropyLoss()")
    kept = kept_of(model, dataset) if room is None else 0  # before Opacus' hooks keep more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus' notes on backward hooks are not about us
        wrapped = prepare_module(
            model,
            grad_sample_mode="ghost",
            batch_first=True,
            loss_reduction="mean",
            max_grad_norm=plan.terms.max_grad_norm,
            wrap_model=True,
        )
    stepper = _Stepper(
        optimizer,
        noise_multiplier=plan.sigma,
        max_grad_norm=plan.terms.max_grad_norm,
        expected_batch_size=plan.expected_batch,
        loss_reduction="mean",
        generator=secret_generator(),
    )
    stepper.attach_step_hook(_allowance(plan.steps))
    room = room or Room(int(SHARE * headroom()), kept)
    drawn = poisson(dataset, plan.sampling_rate, plan.steps, secret_generator())
    return PrivateTraining(
        model=wrapped,
        batches=drawn.through(lambda draws: in_parts(draws, stepper, room)),
        optimizer=stepper,
        loss=DPLossFastGradientClipping(wrapped, stepper, loss, "mean"),
        room=room,
    )


class _Stepper(DPOptimizerFastGradientClipping):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' optimizer without its copies of gradients, which nobody else sees, and its zeros, which are then added to."""

    def accumulate(self) -> None:
        """Take over the clipped sum of the batch, zero where there is none: a step after no record is noise alone.

        Where the batch comes in parts it is added to theirs. The sum of a step that was already taken stays, and Opacus refuses
        it.
        """
        for parameter in self.params:
            if parameter.summed_grad is None:
                clipped, parameter.grad = parameter.grad, None
                parameter.summed_grad = torch.zeros_like(parameter) if clipped is None else clipped
            elif self._is_last_step_skipped and parameter.grad is not None:
                parameter.summed_grad.add_(parameter.grad)
                parameter.grad = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, the first pass' too, which only told the norms; the sum of a batch's parts so far stays."""
        for parameter in self.params:
            parameter.grad = None
            if not self._is_last_step_skipped:
                parameter.summed_grad = None


def check_private(model: nn.Module) -> None:
    """Raise PrivacyRefused for a model that mixes records, or has layers whose gradient of one record Opacus cannot know."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # Opacus overlooks the lazy ones
            raise PrivacyRefused(
                f"the model's layer `{name or 'itself'}` is {type(module).__name__}, which mixes records and cannot be trained "
                f"with DP-SGD",
                hint="use nn.GroupNorm for it",
            )
    if problems := ModuleValidator.validate(model, strict=False):
        raise PrivacyRefused(
            f"the model cannot be trained with DP-SGD: {problems[0]}", hint="use a layer of opacus.layers, or another one, for it"
        )


def secret_generator() -> torch.Generator:
    """A generator that nobody can foresee: its whole state, 19,937 bits, comes from the kernel.

    A seed would not do: torch's generator takes 32 bits of it, and whoever knows an update could try them all until the noise
    falls away.
    """
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words = np.frombuffer(os.urandom(4 * _WORDS), np.uint32).astype(np.uint64)
    state[_FIRST_WORD : _FIRST_WORD + 8 * _WORDS] = torch.from_numpy(words.view(np.uint8))
    generator.set_state(state)
    return generator


def _allowance(steps: int) -> Any:
    """A hook that Opacus calls before each step takes effect."""
    taken = 0

    def count(_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > steps:
            raise PrivacyRefused(
                f"the task took more than the {steps} steps that were charged", hint="step once per batch in `train`"
            )

    return count
