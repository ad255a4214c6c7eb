"""The aggregation rules by name. Each is a pure function of the round's updates and the devices' past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefl.events.schema import Verdict
from edgefl.federation.aggregation import columns
from edgefl.federation.aggregation.gram import Gram
from edgefl.federation.aggregation.guard import Guard
from edgefl.federation.aggregation.limits import attackers, check_rule
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.scores import Aggregate, Score, Updates, capped_weights, peers_of
from edgefl.federation.aggregation.vectors import Matrix, Vector


class Rule(Protocol):
    """Makes one delta of many."""

    name: str

    def aggregate(self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation) -> Aggregate:
        """deltas: (n, p) float32, finite, one update per row. devices, samples: n names and claimed counts. history: before
        this round.
        """
        ...


def build(rule: str, byzantine: float) -> Rule:
    """The rule of that name for at most a share `byzantine` of malicious devices. Raises RuleUnfit for an unknown name."""
    check_rule(rule, 0.0, 3)
    if rule == "guard":
        return Guard(byzantine)
    return CoordinateRule(rule, byzantine) if rule in CoordinateRule.KINDS else Krum(rule, byzantine)


class CoordinateRule:
    """`mean` (weighted by claimed records, capped), `median` and `trimmed-mean`: they blame nobody, but show how far each
    update lies off.
    """

    KINDS: ClassVar[dict[str, Callable[[Updates, int], Vector]]] = {
        "mean": lambda updates, _: columns.weighted_sum(updates.deltas, capped_weights(updates.samples)),
        "median": lambda updates, _: columns.median(updates.deltas),
        "trimmed-mean": lambda updates, trim: columns.trimmed_mean(updates.deltas, trim),
    }
    THRESHOLD = 2.0
    """Twice the usual distance is worth a look."""

    def __init__(self, name: str, byzantine: float) -> None:
        self.name = name
        self.byzantine = byzantine

    def aggregate(self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation) -> Aggregate:
        """See Rule. The score is an update's median distance to the others over the usual one."""
        updates = Updates(deltas, devices, samples)
        count = len(devices)
        trim = min(attackers(self.byzantine, count), (count - 1) // 2)
        gram = Gram.sampled(deltas)
        weights = capped_weights(samples) * count if self.name == "mean" else np.ones(count)
        scores = _distance_scores(gram)
        return Aggregate(
            delta=self.KINDS[self.name](updates, trim),
            scores=_scores(updates, gram, scores, self.THRESHOLD, weights=weights, history=history, rejecting=False),
            reputation=history,
        )


class Krum:
    """`krum` takes the update nearest to its neighbours, `multi-krum` the mean of the n - f nearest ones (Blanchard et al.,
    2017).

    An update's score is its summed squared distance to its n - f - 2 nearest others, over the median score.
    Where fewer than 2f + 3 updates arrived, f shrinks to what they can withstand.
    """

    def __init__(self, name: str, byzantine: float) -> None:
        self.name = name
        self.byzantine = byzantine

    def aggregate(self, deltas: Matrix, devices: Sequence[str], samples: NDArray[np.int64], history: Reputation) -> Aggregate:
        """See Rule. What is not chosen has weight 0, which is a preference, not a finding."""
        updates = Updates(deltas, devices, samples)
        count = len(devices)
        malicious = max(0, min(attackers(self.byzantine, count), (count - 3) // 2))
        gram = Gram.of(deltas)
        raw = krum_scores(gram, malicious)
        chosen = np.argsort(raw, kind="stable")[: 1 if self.name == "krum" else count - malicious]
        weights = np.zeros(count)
        weights[chosen] = count / len(chosen)
        usual = float(np.median(raw)) or 1.0
        return Aggregate(
            delta=columns.weighted_sum(deltas, weights / count),
            scores=_scores(
                updates, gram, raw / usual, float(raw[chosen].max()) / usual, weights=weights, history=history, rejecting=True
            ),
            reputation=history,
        )


def krum_scores(gram: Gram, malicious: int) -> NDArray[np.float64]:
    """Sum of each delta's squared distances to its n - f - 2 nearest others (at least one), (n,)."""
    count = len(gram.norms)
    if count == 1:
        return np.zeros(1)
    others = gram.squared_distances[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    nearest = max(1, count - malicious - 2)
    return np.asarray(np.sort(others, axis=1)[:, :nearest].sum(axis=1))


def _distance_scores(gram: Gram) -> NDArray[np.float64]:
    count = len(gram.norms)
    if count < 2:
        return np.zeros(count)
    others = np.sqrt(gram.squared_distances[~np.eye(count, dtype=bool)].reshape(count, count - 1))
    usual = float(np.median(others)) or 1.0
    return np.asarray(np.median(others, axis=1) / usual)


def _scores(
    updates: Updates,
    gram: Gram,
    scores: NDArray[np.float64],
    threshold: float,
    *,
    weights: NDArray[np.float64],
    history: Reputation,
    rejecting: bool,
) -> list[Score]:
    cosines = gram.cosines_to_others()
    verdicts: list[Verdict] = ["reject" if rejecting and weight == 0 else "accept" for weight in weights]
    return [
        Score(
            device=device,
            score=float(scores[place]),
            threshold=threshold,
            verdict=verdicts[place],
            weight=float(weights[place]),
            norm=float(gram.norms[place]),
            cosine=float(cosines[place]),
            reason="farther from its neighbours than the chosen ones" if verdicts[place] == "reject" else "",
            flagged=False,
            peers=peers_of(scores, place),
            reputation=history.of(device).trust,
        )
        for place, device in enumerate(updates.devices)
    ]
