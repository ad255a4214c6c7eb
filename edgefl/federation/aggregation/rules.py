"""The aggregation rules by name. Each is a pure function of the round's updates and the devices' past.

Each reads the updates twice: for the matrix of their inner products (gram.py), on which everything is decided, and for the one
weighted sum, or the columns' sorting, that gives the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgefl.events.schema import Verdict
from edgefl.federation.aggregation import columns
from edgefl.federation.aggregation.gram import Gram, medians
from edgefl.federation.aggregation.guard import Guard
from edgefl.federation.aggregation.limits import attackers_among, check_rule
from edgefl.federation.aggregation.reputation import Reputation, Seen
from edgefl.federation.aggregation.scores import Aggregate, Score, Updates, capped_weights, peers_of
from edgefl.federation.aggregation.vectors import Matrix
from edgefl.federation.aggregation.weights import (
    Values,
    clipped,
    distances_to,
    geometric_median,
    krum_scores,
    nearest_mixing,
    norm_z_scores,
)


class Rule(Protocol):
    """Makes one delta of many."""

    @property
    def name(self) -> str:
        """As site.yaml has it."""

    def aggregate(
        self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation, known: int = 0
    ) -> Aggregate:
        """deltas: (n, p) float32, finite, one update per row. devices, samples: n names and claimed counts. history: before
        this round. known: how many malicious devices there are beside these (see Reputation.known).
        """
        ...


def build(rule: str, byzantine: float, mixing: str = "none") -> Rule:
    """The rule of that name for at most a share `byzantine` of malicious devices, `mixing` nearest neighbours before it or not.

    Raises RuleUnfit for an unknown name. Whether it is a defence is for `check_rule` to say: benchmarks measure those that are
    none.
    """
    check_rule(rule, 0.0, 3, mixing)
    if rule == "guard":
        return Guard(byzantine)
    if rule == "z-score":
        return ZScore()
    mixes = rule == "nnm" or mixing == "nearest"
    if rule in TRIMS:
        return ColumnRule(rule, byzantine, TRIMS[rule], mixes)
    return WeightRule(rule, byzantine, WEIGHTS[rule], mixes)


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """`median` and `trimmed-mean`, which work on each coordinate, and `nnm`, the latter after mixing: they blame nobody, but
    show how far each update lies off.

    trim: how many values to leave out at each end, of the number of updates and of the malicious among them.
    """

    name: str
    byzantine: float
    trim: Callable[[int, int], int]
    mixes: bool = False
    THRESHOLD = 2.0
    """Twice the usual distance is worth a look."""

    def aggregate(
        self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation, known: int = 0
    ) -> Aggregate:
        """See Rule. The score is an update's median distance to the others over the usual one."""
        updates = Updates(deltas, devices, samples)
        count = len(devices)
        malicious = attackers_among(self.byzantine, count, known)
        gram = Gram.of(deltas) if self.mixes else Gram.sampled(deltas)
        mixing = nearest_mixing(gram, malicious).astype(np.float32) if self.mixes else None
        return Aggregate(
            delta=columns.trimmed_mean(deltas, self.trim(count, malicious), mixing),
            scores=_scores(updates, gram, Weighing(np.full(count, 1 / count), off(gram), self.THRESHOLD), history),
            reputation=history,
        )


TRIMS: dict[str, Callable[[int, int], int]] = {
    "median": lambda count, _: (count - 1) // 2,
    "trimmed-mean": lambda _, malicious: malicious,
    "nnm": lambda _, malicious: malicious,
}


@dataclass(frozen=True, slots=True)
class Weighing:
    """What a rule that is one weighted sum decides: weights (n,), scores (n,) and the score from which one is worth a look.

    chosen: the rule takes some updates and leaves others, which is a preference, not a finding. flags: whom it accuses.
    """

    weights: Values
    scores: Values
    threshold: float
    chosen: bool = False
    flags: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class WeightRule:
    """Rules whose result is one weighted sum of the updates: `mean`, `norm-clipping`, `geometric-median`, `krum`, `multi-krum`.

    weigh: of the Gram matrix, the claimed records and the number of malicious updates. After mixing the rule sees the mixed
    updates' Gram matrix, M G Mᵀ, and their weights are brought back to the updates themselves.
    """

    name: str
    byzantine: float
    weigh: Callable[[Gram, NDArray[np.int64], int], Weighing]
    mixes: bool = False

    def aggregate(
        self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation, known: int = 0
    ) -> Aggregate:
        """See Rule."""
        updates = Updates(deltas, devices, samples)
        count = len(devices)
        malicious = attackers_among(self.byzantine, count, known)
        gram = Gram.of(deltas)
        if self.mixes:
            mixing = nearest_mixing(gram, malicious)
            mixed = self.weigh(gram.mixed(mixing), samples, malicious)
            found = Weighing(mixed.weights @ mixing, off(gram), ColumnRule.THRESHOLD)
        else:
            found = self.weigh(gram, samples, malicious)
        return Aggregate(
            delta=columns.weighted_sum(deltas, found.weights),
            scores=_scores(updates, gram, found, history),
            reputation=history,
        )


def _mean(gram: Gram, samples: NDArray[np.int64], malicious: int) -> Weighing:
    """By claimed records, capped."""
    return Weighing(capped_weights(samples), off(gram), ColumnRule.THRESHOLD)


def _norm_clipping(gram: Gram, samples: NDArray[np.int64], malicious: int) -> Weighing:
    """The mean of updates none of which is longer than the median one (Sun et al., 2019, arXiv:1911.07963); scored by length."""
    usual = float(np.median(gram.norms)) or 1.0
    return Weighing(capped_weights(samples) * clipped(gram), gram.norms / usual, 1.0)


def _geometric_median(gram: Gram, samples: NDArray[np.int64], malicious: int) -> Weighing:
    """The point with the least summed distance to all updates (RFA, Pillutla et al., 2022); scored by distance to it."""
    weights = geometric_median(gram)
    distances = distances_to(gram, weights)
    return Weighing(weights, distances / (float(np.median(distances)) or 1.0), ColumnRule.THRESHOLD)


def _krum(take: Callable[[int, int], int]) -> Callable[[Gram, NDArray[np.int64], int], Weighing]:
    """The mean of the `take` updates nearest to their neighbours (Blanchard et al., 2017).

    An update's score is its summed squared distance to its n - f - 2 nearest others, over the median score. Where fewer than 2f
    + 3 updates arrived, f shrinks to what they can withstand.
    """

    def weigh(gram: Gram, samples: NDArray[np.int64], malicious: int) -> Weighing:
        count = len(gram.norms)
        malicious = max(0, min(malicious, (count - 3) // 2))
        raw = krum_scores(gram, malicious)
        chosen = np.argsort(raw, kind="stable")[: take(count, malicious)]
        weights = np.zeros(count)
        weights[chosen] = 1 / len(chosen)
        usual = float(np.median(raw)) or 1.0
        return Weighing(weights, raw / usual, float(raw[chosen].max()) / usual, chosen=True)

    return weigh


WEIGHTS: dict[str, Callable[[Gram, NDArray[np.int64], int], Weighing]] = {
    "mean": _mean,
    "norm-clipping": _norm_clipping,
    "geometric-median": _geometric_median,
    "krum": _krum(lambda count, malicious: 1),
    "multi-krum": _krum(lambda count, malicious: count - malicious),
}


class ZScore:
    """The common baseline: an update whose norm lies more than 3 standard deviations from the mean norm is left out.

    It cannot work. With the share of f colluders among n their own z is at most sqrt((n - f) / f), since they widen the deviation
    that they are measured by: 2.0 at 20 %, 1.53 at 30 %; and no single z of n values exceeds (n - 1) / sqrt(n), 2.85 of ten. It
    also sees lengths alone, and a flipped update has the usual one. It is here to be compared with.
    """

    name = "z-score"
    THRESHOLD = 3.0

    def aggregate(
        self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation, known: int = 0
    ) -> Aggregate:
        """See Rule. The score is |z| of the update's norm."""
        updates = Updates(deltas, devices, samples)
        gram = Gram.of(deltas)
        scores = norm_z_scores(gram)
        flags = scores > self.THRESHOLD
        weights = np.where(flags, 0.0, capped_weights(samples))
        weights /= weights.sum()
        after = history.after(
            {device: Seen(float(scores[place] / self.THRESHOLD), bool(flags[place])) for place, device in enumerate(devices)}
        )
        return Aggregate(
            delta=columns.weighted_sum(deltas, weights),
            scores=_scores(updates, gram, Weighing(weights, scores, self.THRESHOLD, flags=flags), after),
            reputation=after,
        )


def off(gram: Gram) -> Values:
    """How far each update lies from the others: its median distance to them, over the usual one, (n,)."""
    count = len(gram.norms)
    if count < 2:
        return np.zeros(count)
    others = np.sqrt(gram.squared_distances[~np.eye(count, dtype=bool)].reshape(count, count - 1))
    usual = float(medians(others.reshape(1, -1))[0]) or 1.0
    return medians(others) / usual


def _scores(updates: Updates, gram: Gram, found: Weighing, history: Reputation) -> list[Score]:
    """One per update; its weight as a part of an even share."""
    usual = float(np.median(gram.norms)) or 1.0
    flags = np.zeros(len(gram.norms), bool) if found.flags is None else found.flags
    out = flags | (found.chosen & (found.weights == 0))
    shares = len(updates.devices) * found.weights
    said = []
    # As plain numbers: NumPy's own take ten times as long one by one.
    values = (column.tolist() for column in (found.scores, shares, gram.norms, gram.cosines_to_others(), flags, out))
    for device, peers, score, weight, norm, cosine, flagged, left_out in zip(
        updates.devices, peers_of(found.scores), *values, strict=True
    ):
        verdict: Verdict = "reject" if left_out else "accept"
        reason = ""
        if flagged:
            reason = f"is {norm / usual:.2g} times as long as is usual"
        elif left_out:
            reason = "farther from its neighbours than the chosen ones"
        elif not found.chosen and score > found.threshold:
            reason = f"{score / found.threshold:.2g} times the limit, which this rule only reports"
        said.append(
            Score(
                device=device,
                score=score,
                threshold=found.threshold,
                verdict=verdict,
                weight=weight,
                norm=norm,
                cosine=cosine,
                reason=reason,
                flagged=flagged,
                peers=peers,
                reputation=history.of(device).trust,
            )
        )
    return said
