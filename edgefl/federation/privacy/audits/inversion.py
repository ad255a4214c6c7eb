"""Gradient inversion: what does one device's update show of the record behind it?

The worst case: one record, one step, and an attacker who owns the coordinator and knows the model and the label. The naive attack
matches gradients by squared distance (Zhu, Liu, Han, 2019, arXiv:1906.08935). The adaptive one knows what protects the update:
it matches directions alone, which no clipping hides (Geiping et al., 2020, arXiv:2003.14053), and reads the record off the first
linear layer, whose weights' gradient is the record times the biases' (Phong et al., 2018). Of its ways the best counts, as if the
attacker knew which that is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log10
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgefl.federation.outline import TaskInvalid
from edgefl.federation.privacy.audits.pictures import png
from edgefl.federation.privacy.audits.results import Inversion, Reconstruction, Scene
from edgefl.federation.privacy.audits.subject import AuditUnfit, Subject
from edgefl.federation.privacy.plan import PrivacyRefused
from edgefl.progress import Finished, Progress, Started, Step

STAGE = "inversion"
RECOGNISABLE_DB = 20.0
BEST_DB = 100.0
RESTARTS = 2
ITERATIONS = 200
ROWS = 32
"""Rows of the first layer that are tried one by one."""

Gradient = list[Tensor]


@dataclass(frozen=True, slots=True)
class Observed:
    """What the attacker has. gradient: by parameter, summed over the devices. labels: one a device."""

    gradient: Gradient
    labels: Tensor


class Attacker:
    """Knows the model, the loss and the range of the records, and reconstructs from gradients."""

    def __init__(self, model: nn.Module, loss: nn.Module, features: Tensor, seed: int) -> None:
        self._model, self._loss, self._seed = model.eval(), loss, seed
        self._parameters = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
        self._first = next(module for module in model.modules() if next(module.parameters(recurse=False), None) is not None)
        self._shape = features.shape[1:]
        self._bounds = features.min(), features.max()
        with torch.no_grad():
            seen = self.seen(features)
        self.low, self.high, self.usual = float(seen.min()), float(seen.max()), seen.mean(0)

    def gradient(self, features: Tensor, labels: Tensor, *, create_graph: bool = False) -> Gradient:
        """Of the sum of the records' losses."""
        value = self._loss(functional_call(self._model, self._parameters, (features,)), labels) * len(labels)
        return list(torch.autograd.grad(value, list(self._parameters.values()), create_graph=create_graph))

    def seen(self, features: Tensor) -> Tensor:
        """What the first layer with weights reads of each record: all that can be recovered."""
        read: list[Tensor] = []
        hook = self._first.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        try:
            self._model(features)
        finally:
            hook.remove()
        return read[0]

    def naive(self, observed: Observed) -> dict[str, Tensor]:
        """By squared distance of gradients; way to what it found, (n, …) as the first layer reads it."""

        def distance(guess: Gradient) -> Tensor:
            pairs = zip(guess, observed.gradient, strict=True)
            return torch.stack([(mine - theirs).square().sum() for mine, theirs in pairs]).sum()

        return {"distance": self._matched(observed, distance)}

    def adaptive(self, observed: Observed) -> dict[str, Tensor]:
        """By direction, and off the first layer."""
        length = torch.stack([part.square().sum() for part in observed.gradient]).sum().sqrt()

        def angle(guess: Gradient) -> Tensor:
            pairs = list(zip(guess, observed.gradient, strict=True))
            dot = torch.stack([(mine * theirs).sum() for mine, theirs in pairs]).sum()
            own = torch.stack([mine.square().sum() for mine, _ in pairs]).sum().sqrt()
            return 1 - dot / (own * length + 1e-20)

        found = {"direction": self._matched(observed, angle)}
        if (read := self._off_first_layer(observed.gradient)) is not None:
            found["first layer"] = read
        return found

    def psnr(self, guesses: Tensor, truth: Tensor) -> tuple[float, Tensor]:
        """The best PSNR in dB of any guess for any of the true records, and that guess.

        guesses, truth: as the first layer reads them, (m, …) and (n, …); the peak is the range of all records.
        """
        clamped = guesses.clamp(self.low, self.high)
        errors = (clamped[:, None] - truth[None]).flatten(2).square().mean(2)
        best = int(errors.min(1).values.argmin())
        error = float(errors[best].min()) / max(self.high - self.low, 1e-12) ** 2
        return (BEST_DB if error <= 10 ** (-BEST_DB / 10) else -10 * log10(error)), clamped[best]

    def _matched(self, observed: Observed, objective: Callable[[Gradient], Tensor]) -> Tensor:
        """Records whose gradient minimises the objective, by L-BFGS from several starts."""
        generator = torch.Generator().manual_seed(self._seed)
        low, high = self._bounds
        best, found = float("inf"), torch.zeros(len(observed.labels), *self._shape)
        for _ in range(RESTARTS):
            start = torch.rand(found.shape, generator=generator) * (high - low) + low
            guess = start.requires_grad_()
            optimizer = torch.optim.LBFGS([guess], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

            def closure(guess: Tensor = guess, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
                optimizer.zero_grad()
                value = objective(self.gradient(guess, observed.labels, create_graph=True))
                (guess.grad,) = torch.autograd.grad(value, [guess])
                return value.detach()

            optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch's own
            reached = float(closure())
            if reached < best and bool(guess.isfinite().all()):
                best, found = reached, guess.detach()
        with torch.no_grad():
            return self.seen(found)

    def _off_first_layer(self, gradient: Gradient) -> Tensor | None:
        """Candidates, (m, d): each row's weights by its bias, and all rows' least squares; None without such a layer."""
        if not isinstance(self._first, nn.Linear) or self._first.bias is None:
            return None
        named = dict(zip(map(id, self._model.parameters()), gradient, strict=True))
        weights, biases = named[id(self._first.weight)], named[id(self._first.bias)]
        rows = biases.abs().argsort(descending=True)[:ROWS]
        safe = torch.where(biases[rows].abs() < 1e-20, 1e-20, biases[rows])
        together = biases @ weights / biases.square().sum().clamp(min=1e-30)
        return torch.cat([together[None], weights[rows] / safe[:, None]])


@dataclass(frozen=True, slots=True)
class Setting:
    """What one scene does to updates before the attacker sees them."""

    name: str
    clip: float | None
    sigma: float
    devices: int
    is_site: bool


def settings_of(subject: Subject, devices: int, *, sums: bool) -> list[Setting]:
    """The scenes. devices: how many a secure sum joins. sums: the site sends secure sums. Without a sigma that a device would
    accept, those with noise are left out.
    """
    clip = subject.terms.max_grad_norm
    try:
        sigma = subject.plan(subject.terms.epsilon_per_run).sigma
    except PrivacyRefused:
        sigma = 0.0
    noisy = [(f"ε {subject.terms.epsilon_per_run:g}", clip, sigma)] if sigma else []
    kinds = [("plain", None, 0.0), ("clipped", clip, 0.0), *noisy]
    alone = [Setting(name, clip, sigma, 1, not sums and subject.private == (sigma > 0)) for name, clip, sigma in kinds]
    summed = [
        Setting(f"sum of {devices}, {name}", clip, sigma, devices, sums and subject.private == (sigma > 0))
        for name, clip, sigma in kinds
        if name != "clipped"
    ]
    found = [*alone, *summed]
    return [
        setting
        if subject.private or setting.clip is None
        else Setting(setting.name, setting.clip, setting.sigma, setting.devices, is_site=False)
        for setting in found
    ]


def observe(attacker: Attacker, setting: Setting, features: Tensor, labels: Tensor, generator: torch.Generator) -> Observed:
    """The sum of the devices' updates, each of one record, clipped and noised by itself. features: (devices, …)."""
    total: Gradient = []
    for place in range(len(labels)):
        own = attacker.gradient(features[place : place + 1], labels[place : place + 1])
        if setting.clip is not None:
            norm = float(torch.stack([part.square().sum() for part in own]).sum().sqrt())
            own = [part * min(1.0, setting.clip / max(norm, 1e-12)) for part in own]
            own = [part + setting.sigma * setting.clip * torch.randn(part.shape, generator=generator) for part in own]
        total = own if not total else [mine + theirs for mine, theirs in zip(total, own, strict=True)]
    return Observed(total, labels)


def audit_scene(subject: Subject, setting: Setting, *, records: int) -> Iterator[Progress | Scene]:
    """Attack `records` observations of one kind, each by both attacks; ends with the Scene."""
    began = time.monotonic()
    features, labels = subject.pool(max(1000, records * setting.devices))
    if len(labels) < records * setting.devices:
        raise AuditUnfit(f"{len(labels)} records are fewer than the {records * setting.devices} to attack", hint="--records 1")
    attacker = _attacker(subject, features)
    yield Started(STAGE, setting.name, f"{records} records", total=records)
    found: dict[Literal["naive", "adaptive"], list[tuple[float, Tensor, str]]] = {"naive": [], "adaptive": []}
    generator = torch.Generator().manual_seed(subject.seed)
    for number in range(records):
        place = slice(number * setting.devices, (number + 1) * setting.devices)
        truth = attacker.seen(features[place]).detach()
        observed = observe(attacker, setting, features[place], labels[place], generator)
        for attack, run in (("naive", attacker.naive), ("adaptive", attacker.adaptive)):
            ways = {way: attacker.psnr(guess, truth) for way, guess in run(observed).items()}
            way = max(ways, key=lambda way: ways[way][0])
            found[attack].append((*ways[way], way))  # type: ignore[index]  # one of the two
        yield Step(STAGE, setting.name, f"record {number + 1} of {records}")
    scene = Scene(
        name=setting.name,
        is_site=setting.is_site,
        is_private=setting.sigma > 0,
        clipped=setting.clip is not None,
        sigma=setting.sigma,
        devices=setting.devices,
        reconstructions=[_reconstruction(attack, made, attacker) for attack, made in found.items()],
    )
    yield Finished(STAGE, setting.name, f"{scene.psnr:.1f} dB at best", seconds=time.monotonic() - began)
    yield scene


def inversion(subject: Subject, scenes: Sequence[Scene], *, records: int) -> Inversion:
    """The audit of these scenes as one result."""
    features, _ = subject.pool(1000)
    attacker = _attacker(subject, features)
    truth = attacker.seen(features[:records]).detach()
    guesses = [attacker.psnr(attacker.usual[None], one[None])[0] for one in truth]
    return Inversion(
        scenes=list(scenes),
        records=records,
        guess_psnr=max(guesses),
        recognisable=RECOGNISABLE_DB,
        originals=[picture for one in truth if (picture := png(one, attacker.low, attacker.high))],
    )


def _attacker(subject: Subject, features: Tensor) -> Attacker:
    try:
        return Attacker(subject.model(), subject.loss(), features, subject.seed)
    except (RuntimeError, ValueError, TypeError, IndexError, StopIteration) as error:
        raise TaskInvalid(
            f"the task's model cannot be attacked through its gradients: {type(error).__name__}: {error}"
        ) from error


def _reconstruction(
    attack: Literal["naive", "adaptive"], made: Sequence[tuple[float, Tensor, str]], attacker: Attacker
) -> Reconstruction:
    return Reconstruction(
        attack=attack,
        psnr=max(psnr for psnr, _, _ in made),
        mean_psnr=sum(psnr for psnr, _, _ in made) / len(made),
        method=max(made, key=lambda one: one[0])[2],
        pictures=[picture for _, guess, _ in made if (picture := png(guess, attacker.low, attacker.high))],
    )
