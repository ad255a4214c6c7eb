"""Many models trained at once on different halves of the same records, as a device trains: stacked weights, batched products.

The clipping is DP-SGD's, record by record. For linear layers the gradient of a record is never made: its norm is the product
of two norms (Goodfellow, 2015, arXiv:1510.01799), its clipped sum one batched product ("book-keeping": Bu et al., 2023,
arXiv:2210.00038). Other layers' records' gradients are made a layer at a time. A model of which some parameters are used in
another way than once, by the module that owns them, goes by way of whole gradients: right too, several times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap

from edgefl.federation.outline import TaskInvalid

Stack = dict[str, Tensor]
"""Parameters of K models, each (K, *shape)."""
SCORED_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a device trains over a whole run: `rounds` rounds of `steps` steps, each record in a step with `sampling_rate`.

    sigma: noise multiplier of DP-SGD, 0 for none. max_grad_norm: L2 bound of a record's gradient, None without clipping.
    expected_batch: what the summed gradient is divided by, in records.
    """

    sampling_rate: float
    steps: int
    rounds: int
    sigma: float
    max_grad_norm: float | None
    expected_batch: float
    learning_rate: float
    momentum: float = 0.0


class Shadows:
    """Trains copies of one model. model: its parameters are where every copy begins. loss: a mean over records."""

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        self._model = model.train()
        self._loss = loss
        self._start = {name: value.detach().clone() for name, value in model.named_parameters()}
        self._buffers = {name: value.detach().clone() for name, value in model.named_buffers()}

    def train(
        self, features: Tensor, labels: Tensor, members: Tensor, recipe: Recipe, generator: torch.Generator
    ) -> Iterator[Stack]:
        """Yield the models after each round.

        features, labels: (n, …), the pool. members: (K, n) bool, which records each model trains on.
        Raises TaskInvalid for a model that cannot be trained so.
        """
        count = len(members)
        stack = {name: value.expand(count, *value.shape).clone() for name, value in self._start.items()}
        summed = _as_ours(self._summed(features, labels, recipe.max_grad_norm))
        spread = recipe.sigma * (recipe.max_grad_norm or 0.0)
        for _ in range(recipe.rounds):
            velocity: Stack = {}
            for _ in range(recipe.steps):
                drawn, mask = _poisson(members, recipe.sampling_rate, generator)
                total = summed(stack, features[drawn], labels[drawn], mask)
                for name, gradient in total.items():
                    noise = spread * torch.randn(gradient.shape, generator=generator) if spread else 0.0
                    step = (gradient + noise) / recipe.expected_batch
                    if recipe.momentum:
                        step = velocity[name] = recipe.momentum * velocity.get(name, torch.zeros_like(step)) + step
                    stack[name] -= recipe.learning_rate * step
            yield stack

    @torch.no_grad()
    def outputs(self, stack: Stack, features: Tensor) -> Tensor:
        """Every model's output for every record, (K, n, …)."""
        self._model.eval()
        try:
            run = vmap(lambda own, batch: functional_call(self._model, (own, self._buffers), (batch,)), in_dims=(0, None))
            return torch.cat([run(stack, part) for part in torch.split(features, SCORED_AT_ONCE)], 1)
        finally:
            self._model.train()

    def _summed(self, features: Tensor, labels: Tensor, bound: float | None) -> Callable[[Stack, Tensor, Tensor, Tensor], Stack]:
        """What sums clipped gradients: (stack, features (K, b, …), labels (K, b, …), mask (K, b)) to a gradient a model."""
        shapes = self._layers(features[:2])
        if bound is None:
            return self._unclipped
        if shapes is None:
            return lambda stack, x, y, mask: self._whole(stack, x, y, mask, bound)
        return lambda stack, x, y, mask: self._by_layer(stack, x, y, mask, bound, shapes)

    def _record_loss(self, own: Stack, x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = self._loss(functional_call(self._model, (own, self._buffers), (x[None],)), y[None])
        return value

    def _unclipped(self, stack: Stack, x: Tensor, y: Tensor, mask: Tensor) -> Stack:
        def total(own: Stack, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            return (vmap(lambda x, y: self._record_loss(own, x, y), randomness="different")(x, y) * mask).sum()

        return dict(vmap(grad(total), randomness="different")(stack, x, y, mask))

    def _whole(self, stack: Stack, x: Tensor, y: Tensor, mask: Tensor, bound: float) -> Stack:
        each = vmap(grad(self._record_loss), in_dims=(None, 0, 0), randomness="different")
        gradients: Stack = vmap(each, randomness="different")(stack, x, y)
        squares = torch.stack([gradient.flatten(2).square().sum(2) for gradient in gradients.values()]).sum(0)
        scale = _scale(squares, bound, mask)
        return {name: _weighted(gradient, scale) for name, gradient in gradients.items()}

    def _by_layer(  # noqa: PLR0917  # all of them together are one step
        self, stack: Stack, x: Tensor, y: Tensor, mask: Tensor, bound: float, shapes: dict[str, torch.Size]
    ) -> Stack:
        seen, back = self._inside(stack, x, y, shapes)
        squares = torch.zeros_like(mask)
        kept: dict[str, Stack] = {}
        for layer, module in self._owners():
            a, g = seen[layer], back[layer]
            if _is_plain(module, a):
                squares += g.square().sum(2) * (a.square().sum(2) + (module.bias is not None))
            else:
                kept[layer] = self._layer_gradients(module, {p: stack[_join(layer, p)] for p in module._parameters}, a, g)
                squares += torch.stack([gradient.flatten(2).square().sum(2) for gradient in kept[layer].values()]).sum(0)
        scale = _scale(squares, bound, mask)
        total: Stack = {}
        for layer, module in self._owners():
            if layer in kept:
                total |= {_join(layer, name): _weighted(gradient, scale) for name, gradient in kept[layer].items()}
                continue
            scaled = back[layer] * scale[:, :, None]
            total[_join(layer, "weight")] = torch.bmm(scaled.transpose(1, 2), seen[layer])
            if module.bias is not None:
                total[_join(layer, "bias")] = scaled.sum(1)
        return total

    def _inside(self, stack: Stack, x: Tensor, y: Tensor, shapes: dict[str, torch.Size]) -> tuple[Stack, Stack]:
        """What each layer got, and the loss's gradient at what it gave: (K, b, …) each, by layer.

        The gradient is taken at a zero that is added to the layer's output.
        """

        def total(zeros: Stack, own: Stack, x: Tensor, y: Tensor) -> tuple[Tensor, Stack]:
            seen: Stack = {}

            def tapped(layer: str) -> Callable[..., Tensor]:
                def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                    seen[layer] = inputs[0]
                    return output + zeros[layer]

                return hook

            hooks = [module.register_forward_hook(tapped(layer)) for layer, module in self._owners()]
            try:
                output = functional_call(self._model, (own, self._buffers), (x,))
            finally:
                for hook in hooks:
                    hook.remove()
            losses = vmap(lambda output, y: self._loss(output[None], y[None]))(output, y)
            return losses.sum(), seen

        zeros = {layer: torch.zeros(x.shape[1], *shape) for layer, shape in shapes.items()}
        back, seen = vmap(grad(total, has_aux=True), in_dims=(None, 0, 0, 0), randomness="different")(zeros, stack, x, y)
        return seen, back

    @staticmethod
    def _layer_gradients(module: nn.Module, own: Stack, a: Tensor, g: Tensor) -> Stack:
        def one(own: Stack, a: Tensor, g: Tensor) -> Stack:
            pull = vjp(lambda own: functional_call(module, own, (a[None],))[0], own)[1]
            gradients: Stack = pull(g)[0]
            return gradients

        return dict(vmap(vmap(one, in_dims=(None, 0, 0)))(own, a, g))

    def _owners(self) -> list[tuple[str, Any]]:
        modules = self._model.named_modules()
        return [(name, module) for name, module in modules if next(module.parameters(recurse=False), None) is not None]

    def _layers(self, features: Tensor) -> dict[str, torch.Size] | None:
        """The output's shape of one record at each module that owns parameters; None where not each is called just once, with
        one tensor, record by record.
        """
        calls: list[tuple[str, Any, Any]] = []
        hooks = [
            module.register_forward_hook(lambda _, inputs, output, name=name: calls.append((name, inputs, output)))
            for name, module in self._owners()
        ]
        try:
            self._model(features)
        except Exception as error:
            raise TaskInvalid(f"the task's model does not take its records: {type(error).__name__}: {error}") from error
        finally:
            for hook in hooks:
                hook.remove()
        named = len(list(self._model.named_parameters(remove_duplicate=False))) == len(self._start)
        fits = named and sorted(name for name, _, _ in calls) == sorted(name for name, _ in self._owners())
        if not fits or not all(_is_by_record(inputs, output, len(features)) for _, inputs, output in calls):
            return None
        return {name: output.shape[1:] for name, _, output in calls}


def _poisson(members: Tensor, sampling_rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each model's drawn records, (K, b), padded to the longest draw, and which of them count, (K, b) float."""
    drawn = members & (torch.rand(members.shape, generator=generator) < sampling_rate)
    longest = max(1, int(drawn.sum(1).max()))
    order = drawn.byte().argsort(dim=1, descending=True, stable=True)[:, :longest]
    return order, drawn.gather(1, order).float()


def _scale(squares: Tensor, bound: float, mask: Tensor) -> Tensor:
    return (bound / squares.sqrt().clamp(min=1e-12)).clamp(max=1.0) * mask


def _weighted(gradients: Tensor, scale: Tensor) -> Tensor:
    """(K, b, *shape) and (K, b) to the weighted sum, (K, *shape)."""
    flat = gradients.flatten(2)
    return torch.bmm(scale[:, None, :], flat).view(len(gradients), *gradients.shape[2:])


def _is_plain(module: nn.Module, seen: Tensor) -> bool:
    """A linear layer that sees one vector a record."""
    return type(module) is nn.Linear and seen.dim() == 3


def _is_by_record(inputs: Any, output: Any, count: int) -> bool:
    one = len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
    return one and len(inputs[0]) == count and len(output) == count


def _join(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name


def _as_ours(step: Callable[..., Stack]) -> Callable[..., Stack]:
    """The step, with what torch cannot batch said in the user's words."""

    def run(*arguments: Tensor | Stack) -> Stack:
        try:
            return step(*arguments)
        except (RuntimeError, ValueError, TypeError) as error:
            raise TaskInvalid(
                f"many copies of the task's model cannot be trained at once: {str(error).splitlines()[0]}",
                hint="the model must treat each record by itself and keep no state: no batch normalisation, no `.item()`",
            ) from error

    return run
