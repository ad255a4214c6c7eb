"""The default rule: find the updates that stand out, keep them away, and average the rest robustly.

From one Gram matrix of the deltas come four kinds of evidence: an unusual length, a direction that the others do not share, a
near copy of another update, and a past of being a little odd each time. What survives is mixed with its nearest neighbours and
trimmed per coordinate (Allouah et al., "Fixing by Mixing", 2023, arXiv:2302.01772), which also holds against attacks that no
score can see.

A z-score of norms is not among them: f colluders of n push their own z to at most sqrt((n - f) / f), 1.53 at 30 %, so it
cannot fire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefl.events.schema import Verdict
from edgefl.federation.aggregation import columns
from edgefl.federation.aggregation.gram import Gram
from edgefl.federation.aggregation.limits import attackers
from edgefl.federation.aggregation.reputation import Reputation, Standing
from edgefl.federation.aggregation.scores import Aggregate, Score, Updates, capped_weights, peers_of
from edgefl.federation.aggregation.vectors import Matrix

Values = NDArray[np.float64]
BLOCKS = 64
"""Into how many runs of columns the evidence is split, to find where the updates have something in common."""
FEWEST = 4
"""With fewer updates nobody can tell who is odd; the coordinate-wise median still bounds the harm."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where evidence begins. Chosen on Fashion-MNIST, reported on another data set (benchmarks/robustness.py).

    score: in robust spreads; above it an update is rejected and its device flagged. doubt: share of the limit above which an
    update counts less. past: a running mean of score / limit above this makes the limit so much lower. distrusted: what a
    device that lost all trust has left of the limit. norm_floor: the least spread of log-norms. direction_floor: the least
    spread of cosines, as a share of the usual one. core_spread: what the spread of the core, which is the most alike, is
    multiplied by to be that of all. noise: the least spread of cosines in units of what two unrelated directions give, 1 /
    sqrt(p). twin: squared distance to another update, over the usual one, below which they are copies.
    """

    score: float = 4.0
    doubt: float = 0.625
    past: float = 0.65
    distrusted: float = 0.15
    norm_floor: float = 0.15
    direction_floor: float = 0.15
    core_spread: float = 1.5
    noise: float = 1.5
    twin: float = 0.02


@dataclass(frozen=True, slots=True)
class Evidence:
    """Robust scores, one per update: of its norm, of its direction, of having a copy; cosines to the core are kept to be
    shown.
    """

    norm: Values
    direction: Values
    twin: Values
    cosine: Values

    @property
    def score(self) -> Values:
        """The strongest of them."""
        return np.maximum(np.maximum(self.norm, self.direction), self.twin)

    def reason(self, place: int, length: float) -> str:
        """What speaks against an update, in words."""
        strongest = max(
            (self.norm, "norm"), (self.direction, "direction"), (self.twin, "twin"), key=lambda kind: float(kind[0][place])
        )[1]
        if strongest == "direction":
            return f"points away from its peers (cosine {self.cosine[place]:+.2f}, usually {np.median(self.cosine):+.2f})"
        if strongest == "norm":
            return f"is {length:.2g} times as long as is usual"
        return "is nearly a copy of another update"


class Guard:
    """See the module. byzantine: the largest share of malicious devices that the mixing is prepared for."""

    name = "guard"

    def __init__(self, byzantine: float, limits: Limits | None = None) -> None:
        self.byzantine = byzantine
        self.limits = limits or Limits()

    def aggregate(self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation) -> Aggregate:
        """See rules.Rule."""
        updates = Updates(deltas, devices, samples)
        gram = Gram.of(deltas, BLOCKS)
        malicious = min(attackers(self.byzantine, len(devices)), (len(devices) - 1) // 2)
        found = evidence(gram, malicious, self.limits)
        score = found.score
        bars = np.array([self._bar(history.of(device)) for device in devices])
        rejected = _rejected(score, bars)
        doubted = (score / bars - self.limits.doubt) / (1 - self.limits.doubt)
        weights = np.where(rejected, 0.0, 1.0 - 0.75 * doubted.clip(0, 1))
        verdicts: list[Verdict] = [
            "reject" if out else "down-weight" if weight < 1 else "accept" for out, weight in zip(rejected, weights, strict=True)
        ]
        after = history.after(
            {device: (float(score[place] / self.limits.score), bool(rejected[place])) for place, device in enumerate(devices)}
        )
        usual = float(np.median(gram.norms)) or 1.0
        return Aggregate(
            delta=self._blend(updates, gram, weights, malicious),
            scores=[
                Score(
                    device=device,
                    score=float(score[place]),
                    threshold=float(bars[place]),
                    verdict=verdicts[place],
                    weight=float(weights[place]),
                    norm=float(gram.norms[place]),
                    cosine=float(found.cosine[place]),
                    reason=self._reason(found, score, place, float(gram.norms[place]) / usual, verdicts[place]),
                    flagged=bool(rejected[place]),
                    peers=peers_of(score, place),
                    reputation=after.of(device).trust,
                )
                for place, device in enumerate(devices)
            ],
            reputation=after,
        )

    def _bar(self, standing: Standing) -> float:
        """The score above which a device is rejected: lower for one that was flagged before or was odd all along.

        An attacker is plain to see in the first rounds, when all honest updates agree, and less and less as the model fits;
        without this it would slip back in then. Trust returns with rounds that give no reason for a flag.
        """
        trust = self.limits.distrusted + (1 - self.limits.distrusted) * standing.trust
        odd = standing.rounds >= 2 and standing.evidence > self.limits.past
        return self.limits.score * min(trust, self.limits.past if odd else 1.0)

    def _reason(self, found: Evidence, score: Values, place: int, length: float, verdict: Verdict) -> str:
        if verdict == "accept":
            return ""
        reason = found.reason(place, length)
        return reason if score[place] > self.limits.score or verdict != "reject" else f"{reason}, as in earlier rounds"

    def _blend(self, updates: Updates, gram: Gram, weights: Values, malicious: int) -> NDArray[np.float32]:
        """Nearest-neighbour mixing, then a trimmed mean, over those with weight; what could not be found is still prepared
        for.
        """
        kept = np.flatnonzero(weights)
        left = max(0, min(malicious - (len(weights) - len(kept)), (len(kept) - 1) // 2))
        shares = weights[kept] * capped_weights(updates.samples[kept])
        # No update is longer than twice the usual one, whatever it says.
        norms = gram.norms[kept]
        longest = 2 * float(np.median(norms))
        scale = np.minimum(1.0, longest / np.maximum(norms, 1e-30))
        if left == 0:
            whole = np.zeros(len(weights))
            whole[kept] = shares / shares.sum() * scale
            return columns.weighted_sum(updates.deltas, whole)
        nearest = np.argsort(gram.of_rows(kept).squared_distances, axis=1, kind="stable")[:, : len(kept) - left]
        mixing = np.zeros((len(kept), len(weights)), np.float32)
        for row, members in enumerate(nearest):
            mixing[row, kept[members]] = shares[members] / shares[members].sum() * scale[members]
        return columns.trimmed_mean(updates.deltas, left, mixing)


def _rejected(score: Values, bars: Values) -> NDArray[np.bool_]:
    """Whom to keep out: never half or more of them, the worst first, since then the odd ones would be the usual."""
    count = len(score)
    if count < FEWEST:
        return np.zeros(count, dtype=bool)
    worst = np.argsort(-score / bars, kind="stable")[: (count - 1) // 2]
    return (score > bars) & np.isin(np.arange(count), worst)


def evidence(gram: Gram, malicious: int, limits: Limits) -> Evidence:
    """What the updates' lengths, directions and likeness say of each, in robust spreads from the usual."""
    count = len(gram.norms)
    if count < 3:
        return Evidence(np.zeros(count), np.zeros(count), np.zeros(count), gram.cosines_to_others())
    shared = gram.where_shared()
    core = _core(shared, malicious)
    cosine = shared.cosines_to_others(core)
    # From the core alone: three flipped updates of ten would widen everyone's spread until they fit into it themselves.
    usual = float(np.median(cosine[core]))
    floor = max(limits.direction_floor * abs(usual), limits.noise / np.sqrt(shared.length))
    direction = (usual - cosine) / max(limits.core_spread * _spread(cosine[core]), floor)
    lengths = np.log(np.maximum(gram.norms, 1e-30))
    norm = np.abs(lengths - np.median(lengths)) / max(_spread(lengths), limits.norm_floor)
    return Evidence(norm=norm, direction=direction.clip(min=0), twin=_twins(gram, limits), cosine=cosine)


def _core(gram: Gram, malicious: int) -> NDArray[np.bool_]:
    """The n - f updates most like the others (by median cosine): colluders are fewer than half, so the median is of honest
    ones.
    """
    count = len(gram.norms)
    others = gram.cosines[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    likeness = np.median(others, axis=1)
    core = np.zeros(count, dtype=bool)
    core[np.argsort(-likeness, kind="stable")[: max(2, count - malicious)]] = True
    return core


def _twins(gram: Gram, limits: Limits) -> Values:
    """Twice the limit for updates that are nearly another's copy while most are not; independent training never gives that."""
    count = len(gram.norms)
    distances = gram.squared_distances[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    usual = float(np.median(distances))
    twins = (distances < limits.twin * usual).any(axis=1)
    return np.where(twins & (2 * twins.sum() < count), 2 * limits.score, 0.0)


def _spread(values: Values) -> float:
    """Median absolute deviation, scaled to a normal's standard deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
