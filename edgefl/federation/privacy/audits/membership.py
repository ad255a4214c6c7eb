"""Membership inference: can it be told from the trained model whether a record was in the training data?

LiRA (Carlini et al., 2022, arXiv:2112.03570), leave one out: every model is a target, and all others are its shadow models. Each
record is in each model with probability 1/2; a record's confidence under models that saw it and that did not see it gives two
normal distributions, and their likelihood ratio at the target's confidence is the score. Variances are shared by all records,
as the authors advise for few shadow models. The loss attack (Yeom et al., 2018, arXiv:1709.01604) needs no shadow models.

The lower bound of epsilon is made of other guesses: half of the models are references alone, so that nothing but the target's
own training depends on the memberships that are guessed; how many records are guessed is chosen among the references.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from edgefl.federation.privacy.audits.results import Interval, Level, Membership, MembershipAttack
from edgefl.federation.privacy.audits.shadows import Recipe, Shadows, Stack
from edgefl.federation.privacy.audits.statistics import CONFIDENCE, Flags, Floats, auc, epsilon_lower_bound, roc, tpr_at
from edgefl.federation.privacy.audits.subject import AuditUnfit, Subject
from edgefl.federation.privacy.plan import PrivacyRefused
from edgefl.progress import Finished, Progress, Started, Step

STAGE = "membership"
LEAST_MODELS = 8
LEAST_RECORDS = 64
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""How large a share of the memberships is guessed, the surest first."""
CURVE = np.concatenate([[0.0], np.logspace(-4, 0, 81)])
"""False positive rates at which a ROC curve is kept."""


def audit_level(subject: Subject, epsilon: float | None, *, models: int, records: int) -> Iterator[Progress | Level]:
    """Train `models` models at a claim of `epsilon` a run (None: without noise), attack them; ends with the Level.

    Deterministic for the subject's seed: the noise that protects nobody need not be secret. Raises AuditUnfit for too few
    records or models, TaskInvalid for a model that does not fit.
    """
    if models < LEAST_MODELS or models % 2:
        raise AuditUnfit(f"{models} models are no even number of at least {LEAST_MODELS}", hint="--models 32")
    began = time.monotonic()
    features, labels = subject.pool(records)
    if len(labels) < LEAST_RECORDS:
        raise AuditUnfit(f"{len(labels)} records are too few to audit with; {LEAST_RECORDS} is the least", hint="--data DIR")
    is_site = epsilon == (subject.terms.epsilon_per_run if subject.private else None)
    name = "no noise" if epsilon is None else f"ε {epsilon:g}"
    try:
        recipe = recipe_of(subject, epsilon, len(labels))
    except PrivacyRefused as refusal:
        yield Step(STAGE, name, f"a device would refuse: {refusal.what}")
        yield Level(epsilon=epsilon, is_site=is_site, refused=refusal.what)
        return
    yield Started(STAGE, name, f"{models} models, sigma {recipe.sigma:g}", total=recipe.rounds)
    members = torch.rand(models, len(labels), generator=torch.Generator().manual_seed(subject.seed)) < 0.5
    shadows = Shadows(subject.model(), subject.loss())
    stack: Stack = {}
    training = shadows.train(features, labels, members, recipe, torch.Generator().manual_seed(subject.seed + 1))
    for number, stack in enumerate(training, 1):  # noqa: B007  # the last one is what is attacked
        yield Step(STAGE, name, f"round {number} of {recipe.rounds}")
    outputs = shadows.outputs(stack, features)
    losses = _losses(subject, outputs, labels)
    confidences = {"LiRA": _confidences(outputs, labels, losses), "loss": -losses}
    flags: Flags = members.numpy()
    attacks = [_attack(kind, confidences, flags, subject.terms.delta) for kind in ("LiRA", "loss")]
    right = (outputs.argmax(-1) == labels).numpy() if _classifies(outputs, labels) else None
    level = Level(
        epsilon=epsilon,
        is_site=is_site,
        sigma=recipe.sigma,
        accuracy_in=None if right is None else float(right[flags].mean()),
        accuracy_out=None if right is None else float(right[~flags].mean()),
        attacks=attacks,
        seconds=time.monotonic() - began,
    )
    yield Finished(STAGE, name, f"AUC {level.auc:.3f}, epsilon at least {level.epsilon_low:.2f}", seconds=level.seconds)
    yield level


def recipe_of(subject: Subject, epsilon: float | None, records: int) -> Recipe:
    """How each model trains: the device's own noise, sampling rate and steps, on about half of `records` records.

    Raises PrivacyRefused where a device would refuse to train at this claim.
    """
    sampling_rate, steps = subject.shape
    return Recipe(
        sampling_rate=sampling_rate,
        steps=steps,
        rounds=subject.terms.rounds,
        sigma=0.0 if epsilon is None else subject.plan(epsilon).sigma,
        max_grad_norm=subject.terms.max_grad_norm if subject.private or epsilon is not None else None,
        expected_batch=sampling_rate * records / 2,
        learning_rate=float(subject.parameters["learning_rate"]),
        momentum=float(subject.parameters["momentum"]),
    )


def membership(subject: Subject, levels: Sequence[Level], *, models: int, records: int) -> Membership:
    """The audit of these levels as one result."""
    sampling_rate, steps = subject.shape
    return Membership(
        levels=list(levels),
        models=models,
        records=min(records, sum(len(labels) for _, labels in subject.records)),
        sampling_rate=sampling_rate,
        steps=steps,
        rounds=subject.terms.rounds,
        delta=subject.terms.delta,
        max_grad_norm=subject.terms.max_grad_norm if subject.private else None,
    )


def lira(confidence: Floats, shadow: Floats, members: Flags) -> Floats:
    """Log-likelihood ratio that each record was in the target's training data.

    confidence: (n,), the target's. shadow: (K, n), the shadow models'. members: (K, n), who trained on what. A record that not
    at least two models saw and two did not gets 0: nothing is known of it.
    """
    inside, outside = members.sum(0), (~members).sum(0)
    known = (inside > 1) & (outside > 1)
    if not known.any():
        return np.zeros(len(confidence))
    ratio = np.zeros(len(confidence))
    for mask, sign in ((members, 1), (~members, -1)):
        count = np.maximum(1, mask.sum(0))
        mean = np.where(mask, shadow, 0).sum(0) / count
        square = np.where(mask, shadow - mean, 0)[:, known]
        variance = max(1e-12, float((square**2).sum() / max(1, (count[known] - 1).sum())))
        ratio -= sign * ((confidence - mean) ** 2 / variance + np.log(variance)) / 2
    return np.where(known, ratio, 0.0)


def _leave_one_out(confidence: Floats, members: Flags) -> Floats:
    """(K, n): every model's records scored by all other models."""
    others = ~np.eye(len(members), dtype=bool)
    return np.stack([lira(own, confidence[rest], members[rest]) for own, rest in zip(confidence, others, strict=True)])


def _attack(kind: str, confidences: dict[str, Floats], members: Flags, delta: float) -> MembershipAttack:
    confidence = confidences[kind]
    models, records = members.shape
    half = models // 2
    if kind == "LiRA":
        scores, practice = _leave_one_out(confidence, members), _leave_one_out(confidence[:half], members[:half])
        guessed = np.stack([lira(own, confidence[:half], members[:half]) for own in confidence[half:]])
    else:
        scores, practice, guessed = confidence, confidence[:half], confidence[half:]
    flat, flags = scores.ravel(), members.ravel()
    which = (np.tile(np.arange(records), models), np.repeat(np.arange(models), records))
    area = auc(flat, flags, which)
    false, true = roc(flat, flags)
    return MembershipAttack(
        name="LiRA" if kind == "LiRA" else "loss",
        auc=Interval(value=area.value, low=area.low, high=area.high),
        tpr_at_1=tpr_at(flat, flags, 0.01),
        epsilon_low=lower_bound(practice, members[:half], guessed, members[half:], delta, 1 - (1 - CONFIDENCE) / 2),
        false=[float(rate) for rate in CURVE],
        true=[float(rate) for rate in true[np.searchsorted(false, CURVE, side="right") - 1]],
    )


def lower_bound(  # noqa: PLR0917  # scores and truth, twice
    practice: Floats, practice_members: Flags, scores: Floats, members: Flags, delta: float, confidence: float
) -> float:
    """Lower bound of epsilon from `scores`, (K, n), guessing as many and on such a side as paid best in `practice`."""

    def guess(scores: Floats, members: Flags, share: float, sides: tuple[bool, bool]) -> tuple[int, int]:
        order, flags = np.argsort(scores, axis=None, kind="stable"), members.ravel()
        each = max(1, int(share * len(order) / 2))
        top, bottom = flags[order[-each:]], ~flags[order[:each]]
        said = [part for part, wanted in zip((top, bottom), sides, strict=True) if wanted]
        return int(sum(part.sum() for part in said)), each * len(said)

    ways = [(share, sides) for share in SHARES for sides in ((True, True), (True, False), (False, True))]
    best = max(
        ways, key=lambda way: epsilon_lower_bound(*guess(practice, practice_members, *way), practice.size, 0.0, confidence)
    )
    return epsilon_lower_bound(*guess(scores, members, *best), scores.size, delta, confidence)


def _classifies(outputs: Tensor, labels: Tensor) -> bool:
    return outputs.dim() == 3 and labels.dim() == 1 and not labels.is_floating_point() and outputs.shape[2] > 1


def _losses(subject: Subject, outputs: Tensor, labels: Tensor) -> Floats:
    loss = subject.loss()
    each = vmap(vmap(lambda output, label: loss(output[None], label[None])), in_dims=(0, None))
    found: NDArray[np.float64] = each(outputs.double(), labels).numpy()
    return found


def _confidences(outputs: Tensor, labels: Tensor, losses: Floats) -> Floats:
    """log(p / (1 - p)) of the true class, (K, n), near normal where the loss is not; the loss where there are no classes."""
    if not _classifies(outputs, labels):
        return -losses
    scores = outputs.double().log_softmax(-1)
    true = labels.expand(outputs.shape[:2])[..., None]
    own = scores.gather(2, true)[..., 0]
    others = scores.scatter(2, true, -torch.inf).logsumexp(-1)
    found: NDArray[np.float64] = (own - others).numpy()
    return found
