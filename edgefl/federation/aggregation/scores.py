"""What a rule says of each update, and what it makes of them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefl.events.schema import FlagRaised, UpdateScored, Verdict
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.vectors import Matrix, Vector


@dataclass(frozen=True, slots=True)
class Score:
    """One update's standing among its peers: the event `update_scored`, and `flag_raised` where `flagged`.

    score: how far it stands out; larger is worse. threshold: above it the update is rejected. weight: its share of the
    aggregate before any trimming, as a part of an even share: 1 is whole, 0 is out. norm: L2 of its delta. cosine: to the
    other devices' direction. flagged: the update is evidence against its device, which a rule that merely prefers other
    updates does not claim. peers: the other updates' scores. reputation: the device's after this round.
    """

    device: str
    score: float
    threshold: float
    verdict: Verdict
    weight: float
    norm: float
    cosine: float
    reason: str
    flagged: bool
    peers: list[float]
    reputation: float

    def events(self, rule: str) -> Iterator[UpdateScored | FlagRaised]:
        """What the journal gets of it."""
        said = {name: getattr(self, name) for name in ("device", "score", "threshold", "reason")}
        about = {name: getattr(self, name) for name in ("verdict", "weight", "norm", "cosine", "reputation")}
        yield UpdateScored(**said, **about, rule=rule)
        if self.flagged:
            yield FlagRaised(**said, rule=rule, peers=list(self.peers))


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The round's result: delta (p,) float32 to move the global model by, a score per device in the order given, and the
    devices' reputations after it, to be saved with the model (a round repeated after a crash begins from those saved before
    it).
    """

    delta: Vector
    scores: list[Score]
    reputation: Reputation


@dataclass(frozen=True, slots=True)
class Updates:
    """A round's updates: deltas (n, p) float32, finite; a name and a claimed number of records for each."""

    deltas: Matrix
    devices: Sequence[str]
    samples: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.deltas.ndim != 2 or not len(self.deltas) == len(self.devices) == len(self.samples) > 0:
            raise ValueError(
                f"{self.deltas.shape} deltas, {len(self.devices)} devices and {len(self.samples)} counts do not belong together"
            )


def peers_of(scores: NDArray[np.float64]) -> Iterator[list[float]]:
    """For each update the others' scores, sorted."""
    order = np.argsort(scores, kind="stable")
    ordered: list[float] = scores[order].tolist()
    for rank in np.argsort(order).tolist():
        yield ordered[:rank] + ordered[rank + 1 :]


def capped_weights(samples: NDArray[np.int64], cap: float = 2.0) -> NDArray[np.float64]:
    """Shares by claimed records, none counted above `cap` times the median: a lie buys at most that; they sum to 1."""
    claimed = samples.astype(np.float64)
    capped = np.minimum(claimed, cap * np.median(claimed))
    return np.asarray(capped / capped.sum())
