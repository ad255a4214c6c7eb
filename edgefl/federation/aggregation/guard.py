"""The default rule: find the updates that stand out, keep them away, and average the rest robustly.

From one Gram matrix of the deltas come three kinds of evidence: more than the usual length, a direction that the others do not
share, and a near copy of another update; the fourth is how much of the common direction the device has followed in all rounds
so far. A device is heard for its early rounds: then all honest updates agree, even of devices with unlike records; later each
pulls to its own records, and an honest one may look as odd as an attacker. What survives is mixed with its nearest neighbours and
trimmed per coordinate (Allouah et al., "Fixing by Mixing", 2023, arXiv:2302.01772), which also holds against attacks that no
score can see.

An odd direction and the length that follows from it keep an update out of its round, each time anew. Records unlike the others'
give them too (a camera that inverts every image), so only copies and absurd lengths speak for leaving the device out of rounds.

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
from edgefl.federation.aggregation.gram import Gram, medians
from edgefl.federation.aggregation.limits import attackers_among
from edgefl.federation.aggregation.reputation import Reputation, Seen
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
    update counts less. norm_floor: the least spread of log-norms. direction_floor: the least spread of cosines, as a share of
    the usual one. direction_least: the least spread of cosines in any case: of eight values a measured spread may be far too
    small by chance. core_spread: what the spread of the core, which is the most alike, is multiplied by to be that of all.
    noise: the least spread of cosines in units of what two unrelated directions give, 1 / sqrt(p). twin: squared distance to
    another update, over the usual one, below which they are copies. twin_values: the fewest values of an update other than zero
    with which that is said of it: in small models and very sparse updates honest ones may be as alike by chance. following: a
    device that has followed less than this of the common direction is rejected. agreement: the usual cosine above which a round
    counts for that. absurd: times the usual length, above which no records explain it: a model that serves one device badly lets
    its updates stay long while the others' fade, 7 times as long after 30 rounds.
    """

    score: float = 4.0
    doubt: float = 0.625
    norm_floor: float = 0.15
    direction_floor: float = 0.15
    direction_least: float = 0.1
    core_spread: float = 2.0
    noise: float = 1.5
    twin: float = 0.02
    twin_values: int = 128
    following: float = 0.33
    agreement: float = 0.5
    absurd: float = 100.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Robust scores of one round, one per update: of its norm, of its direction, of having a copy. cosine: to the core; usual:
    the core's own.
    """

    norm: Values
    direction: Values
    twin: Values
    cosine: Values
    usual: float

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
            return f"points away from its peers (cosine {self.cosine[place]:+.2f}, usually {self.usual:+.2f})"
        if strongest == "norm":
            return f"is {length:.2g} times as long as is usual"
        return "is nearly a copy of another update"


class Guard:
    """See the module. byzantine: the largest share of malicious devices that the mixing is prepared for."""

    name = "guard"

    def __init__(self, byzantine: float, limits: Limits | None = None) -> None:
        self.byzantine = byzantine
        self.limits = limits or Limits()

    def aggregate(
        self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation, known: int = 0
    ) -> Aggregate:
        """See rules.Rule."""
        updates = Updates(deltas, devices, samples)
        gram = Gram.of(deltas, BLOCKS)
        malicious = attackers_among(self.byzantine, len(devices), known)
        found = evidence(gram, deltas, malicious, self.limits)
        # Where there is little agreement the direction only fades.
        agreed = found.usual if found.usual > self.limits.agreement else 0.0
        directed = history.directed(agreed, dict(zip(devices, found.cosine.tolist(), strict=True)))
        past = self._past(directed, devices)
        score = np.maximum(found.score, past)
        rejected = _rejected(score, self.limits.score)
        doubted = (score / self.limits.score - self.limits.doubt) / (1 - self.limits.doubt)
        weights = np.where(rejected, 0.0, 1.0 - 0.75 * doubted.clip(0, 1))
        verdicts: list[Verdict] = [
            "reject" if out else "down-weight" if weight < 1 else "accept" for out, weight in zip(rejected, weights, strict=True)
        ]
        usual = float(np.median(gram.norms)) or 1.0
        grave = (found.twin > self.limits.score) | (gram.norms > self.limits.absurd * usual)
        after = directed.after(
            {
                device: Seen(float(found.score[place] / self.limits.score), bool(rejected[place]), bool(grave[place]))
                for place, device in enumerate(devices)
            }
        )
        reasons = [
            ""
            if verdict == "accept"
            else f"followed {directed.of(device).following:.0%} of its peers' direction in all rounds"
            if past[place] > found.score[place]
            else found.reason(place, float(gram.norms[place]) / usual)
            for place, (device, verdict) in enumerate(zip(devices, verdicts, strict=True))
        ]
        return Aggregate(
            delta=self._blend(updates, gram, weights, malicious),
            scores=[
                Score(
                    device=device,
                    score=float(score[place]),
                    threshold=self.limits.score,
                    verdict=verdicts[place],
                    weight=float(weights[place]),
                    norm=float(gram.norms[place]),
                    cosine=float(found.cosine[place]),
                    reason=reasons[place],
                    flagged=bool(rejected[place]),
                    peers=peers,
                    reputation=after.of(device).trust,
                )
                for place, (device, peers) in enumerate(zip(devices, peers_of(score), strict=True))
            ],
            reputation=after,
        )

    def _past(self, history: Reputation, devices: Sequence[str]) -> Values:
        """How little of the common direction each device has followed, this round included; one round is no past."""
        standings = [history.of(device) for device in devices]
        strayed = np.array([1 - standing.following if standing.rounds else 0.0 for standing in standings])
        scores: Values = self.limits.score * strayed.clip(min=0) / (1 - self.limits.following)
        return scores

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


def _rejected(score: Values, limit: float) -> NDArray[np.bool_]:
    """Whom to keep out: never half or more of them, the worst first, since then the odd ones would be the usual."""
    count = len(score)
    if count < FEWEST:
        return np.zeros(count, dtype=bool)
    worst = np.argsort(-score, kind="stable")[: (count - 1) // 2]
    return (score > limit) & np.isin(np.arange(count), worst)


def evidence(gram: Gram, deltas: Matrix, malicious: int, limits: Limits) -> Evidence:
    """What the updates' lengths, directions and likeness say of each, in robust spreads from the usual."""
    count = len(gram.norms)
    if count < 3:
        return Evidence(np.zeros(count), np.zeros(count), np.zeros(count), gram.cosines_to_others(), 0.0)
    shared = gram.where_shared()
    core = _core(shared, malicious)
    cosine = shared.cosines_to_others(core)
    # From the core alone: three flipped updates of ten would widen everyone's spread until they fit into it themselves.
    usual = float(np.median(cosine[core]))
    floor = max(limits.direction_floor * abs(usual), limits.direction_least, limits.noise / np.sqrt(shared.length))
    direction = (usual - cosine) / max(limits.core_spread * _spread(cosine[core]), floor)
    lengths = np.log(np.maximum(gram.norms, 1e-30))
    # Only too long: a short update moves nothing, and whoever knows its records well already sends one.
    norm = (lengths - np.median(lengths)).clip(min=0) / max(_spread(lengths), limits.norm_floor)
    return Evidence(norm=norm, direction=direction.clip(min=0), twin=_twins(gram, deltas, limits), cosine=cosine, usual=usual)


def _core(gram: Gram, malicious: int) -> NDArray[np.bool_]:
    """The n - f updates most like the others (by median cosine): colluders are fewer than half, so the median is of honest
    ones.
    """
    count = len(gram.norms)
    others = gram.cosines[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    likeness = medians(others)
    core = np.zeros(count, dtype=bool)
    core[np.argsort(-likeness, kind="stable")[: max(2, count - malicious)]] = True
    return core


def _twins(gram: Gram, deltas: Matrix, limits: Limits) -> Values:
    """Twice the limit for updates that are nearly another's copy while most are not; independent training never gives that where
    there are enough values to differ in.
    """
    count = len(gram.norms)
    others = ~np.eye(count, dtype=bool)
    usual = float(medians(gram.squared_distances[others][None])[0])
    near = (gram.squared_distances < limits.twin * usual) & others
    for place in np.flatnonzero(near.any(axis=1)):
        if np.count_nonzero(deltas[place]) < limits.twin_values:
            near[place] = near[:, place] = False
    twins = near.any(axis=1)
    return np.where(twins & (2 * twins.sum() < count), 2 * limits.score, 0.0)


def _spread(values: Values) -> float:
    """Median absolute deviation, scaled to a normal's standard deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
