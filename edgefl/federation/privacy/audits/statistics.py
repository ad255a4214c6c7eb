"""What an attack's scores prove: its ROC curve, an interval for the area under it, and the least epsilon that explains it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq  # type: ignore[import-untyped]  # scipy ships no types
from scipy.stats import binom, norm, rankdata  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CONFIDENCE = 0.95
LARGEST_EPSILON = 50.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its confidence interval."""

    value: float
    low: float
    high: float


def auc(scores: Floats, member: Flags, clusters: tuple[NDArray[np.intp], ...] = (), confidence: float = CONFIDENCE) -> Estimate:
    """Area under the ROC curve (Mann and Whitney, 1947; ties count half) with DeLong's interval.

    scores, member: (n,); a higher score says `member`. clusters: up to two groupings of the scores, (n,) each, within which
    they depend on each other (the same record, the same model); without them every score counts as independent.
    Source: DeLong et al., 1988; for clusters the variance of Cameron, Gelbach and Miller, 2011, "Robust inference with
    multiway clustering". Raises ValueError unless there are scores of both kinds.
    """
    positive, negative = scores[member], scores[~member]
    m, n = len(positive), len(negative)
    if not m or not n:
        raise ValueError("an ROC curve needs members and non-members")
    ranks = rankdata(scores)
    above = (ranks[member] - rankdata(positive)) / n  # of each member: the share of non-members below it
    below = 1 - (ranks[~member] - rankdata(negative)) / m
    area = float(above.mean())
    influence = np.empty(len(scores))
    influence[member], influence[~member] = (above - area) / m, (below - area) / n
    single = float(np.square(influence).sum())
    summed = [_clustered(influence, cluster) for cluster in clusters]
    variance = single if not summed else max([*summed, sum(summed) - single * (len(summed) - 1)])
    reach = float(norm.ppf((1 + confidence) / 2)) * variance**0.5
    return Estimate(area, max(0.0, area - reach), min(1.0, area + reach))


def roc(scores: Floats, member: Flags) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1); equal scores are one step."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(member[order])[ends]
    true = np.append(0.0, hits / member.sum())
    false = np.append(0.0, (ends + 1 - hits) / (~member).sum())
    return false, true


def tpr_at(scores: Floats, member: Flags, fpr: float) -> float:
    """The largest true positive rate at a false positive rate of at most `fpr` (Carlini et al., 2022, arXiv:2112.03570)."""
    false, true = roc(scores, member)
    return float(true[false <= fpr].max())


def epsilon_lower_bound(right: int, guesses: int, canaries: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The least epsilon with which `right` of `guesses` are not too good to be true; 0 where chance explains them.

    Holds when each of `canaries` memberships was an independent fair coin and nothing but the audited training depends on it;
    records within one training need not be independent. At delta 0 it is the logit of Clopper and Pearson's lower bound of
    the guesses' accuracy. Source: Steinke, Nasr, Jagielski, 2023, arXiv:2305.08846, theorem 3.1.
    """
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"{right} right of {guesses} guesses on {canaries} canaries")
    alpha = 1 - confidence

    def excess(epsilon: float) -> float:
        return _likelihood(right, guesses, canaries, epsilon, delta) - alpha

    if guesses == 0 or excess(0.0) >= 0:
        return 0.0
    if excess(LARGEST_EPSILON) <= 0:
        return LARGEST_EPSILON
    return float(brentq(excess, 0.0, LARGEST_EPSILON, xtol=1e-6))


def _likelihood(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Upper bound of the probability of at least `right` right guesses under (epsilon, delta)-DP."""
    accuracy = 1 / (1 + np.exp(-epsilon))
    beyond = float(binom.sf(right - 1, guesses, accuracy))
    if not delta or not right:
        return min(1.0, beyond)
    # What delta can add: the mass of i outcomes just below, for the best i.
    masses = binom.pmf(np.arange(right - 1, -1, -1), guesses, accuracy)
    best = float((np.cumsum(masses) / np.arange(1, right + 1)).max())
    return min(1.0, beyond + 2 * canaries * delta * best)


def _clustered(influence: Floats, cluster: NDArray[np.intp]) -> float:
    names, place = np.unique(cluster, return_inverse=True)
    if len(names) < 2:
        return 0.0
    sums = np.bincount(place, influence)
    return float(np.square(sums).sum() * len(names) / (len(names) - 1))
