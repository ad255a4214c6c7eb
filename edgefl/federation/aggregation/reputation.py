"""What earlier rounds said of each device: what it showed while there was something to see; one bad round does not condemn.

An immutable value: a rule returns the next one. It is saved beside the model of the round it belongs to and survives restarts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from edgefl.events.schema import Conduct

MEMORY = 0.7
"""Share of the past in the running mean: a round's evidence halves in about two rounds."""
FORGIVENESS = 0.05
"""How much of lost trust comes back in a round without evidence."""
RECALLED = 50
"""Rounds whose flags are kept, one by one."""
LASTING = 0.93
"""How much of what was said of a device's direction is left a round later: half after ten."""
INNOCENCE = 0.05
"""What speaks for a device of which nothing is known, as a squared cosine: it outweighs what is long ago."""


class Seen(NamedTuple):
    """What one round said of a device: evidence is its score / threshold; grave evidence is such that no honest device gives it,
    whatever its records.
    """

    evidence: float
    flagged: bool
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """One device's past. evidence: running mean of score / threshold. trust: 1 at first, halved by each flag, slowly regained.
    rounds: how many it was scored in. flags: how many of these flagged it. streak: of them, how many in a row up to now.

    common, followed: sums of squared usual cosines and of their products with its own, lasting; see `following`.
    recent: a digit for each of the last rounds, oldest first: 0 no flag, 1 a flag for what earlier rounds said, 2 a flag for
    that round's update, 3 one for what no honest device sends, whatever its records. conduct: the policy's verdict. terms:
    quarantines so far. out: rounds of this one that are left.
    """

    evidence: float = 0.0
    trust: float = 1.0
    rounds: int = 0
    flags: int = 0
    streak: int = 0
    recent: str = ""
    conduct: Conduct = "trusted"
    terms: int = 0
    out: int = 0
    common: float = 0.0
    followed: float = 0.0

    @property
    def following(self) -> float:
        """How much of the direction that its peers have in common the device has followed: 1 all of it, 0 none, -1 the
        opposite.

        The slope of its cosines over the usual ones, through the origin: a round counts by the square of what the updates had
        in common in it, so the first rounds of a training say most and its last ones, when all that is left is noise, nothing.
        """
        return (INNOCENCE + self.followed) / (INNOCENCE + self.common)

    def directed(self, usual: float, cosine: float) -> Standing:
        """The standing after a round in which the device's update had this cosine to its peers' and theirs was the usual one;
        (0, 0) when the round says nothing of directions.
        """
        return replace(self, common=LASTING * self.common + usual * usual, followed=LASTING * self.followed + usual * cosine)

    def after(self, evidence: float, flagged: bool, grave: bool = False) -> Standing:
        """The standing after one more round (see Seen); evidence is counted up to 3 so that one round cannot say all."""
        seen = min(evidence, 3.0)
        digit = "0" if not flagged else "3" if grave else "2" if evidence >= 1 else "1"
        return replace(
            self,
            evidence=seen if self.rounds == 0 else MEMORY * self.evidence + (1 - MEMORY) * seen,
            trust=self.trust / 2 if flagged else min(1.0, self.trust + FORGIVENESS),
            rounds=self.rounds + 1,
            flags=self.flags + flagged,
            streak=self.streak + 1 if flagged else 0,
            recent=self._recalled(digit),
        )

    def malformed(self) -> Standing:
        """The standing after a round in which what it sent was no update: evidence against it, though not of its direction."""
        return replace(self, flags=self.flags + 1, streak=self.streak + 1, recent=self._recalled("3"))

    def _recalled(self, digit: str) -> str:
        return (self.recent + digit)[-RECALLED:]


UNKNOWN = Standing()


@dataclass(frozen=True, slots=True)
class Reputation:
    """Every device's standing; one that is unknown begins with a clean slate."""

    standings: Mapping[str, Standing] = field(default_factory=dict)

    def of(self, device: str) -> Standing:
        """The device's standing."""
        return self.standings.get(device, UNKNOWN)

    def admitted(self, devices: Iterable[str]) -> list[str]:
        """Those of the devices that are not in quarantine."""
        return [device for device in devices if self.of(device).conduct != "quarantined"]

    def known(self, members: Sequence[str], updates: int, malformed: int) -> int:
        """How many malicious devices are known beside a round's updates: who sent what was no update, and of the members in
        quarantine the share that would have been heard, since a selection asks only some.
        """
        admitted = len(self.admitted(members))
        return malformed + (len(members) - admitted) * (updates + malformed) // max(1, admitted)

    def after(self, observed: Mapping[str, Seen]) -> Reputation:
        """After a round, of each device what it said. Devices that took no part keep their standing."""
        return Reputation({**self.standings, **{device: self.of(device).after(*seen) for device, seen in observed.items()}})

    def directed(self, usual: float, cosines: Mapping[str, float]) -> Reputation:
        """After a round in which the devices' updates had these cosines to their peers'; see Standing.directed."""
        seen = {device: self.of(device).directed(usual, cosine) for device, cosine in cosines.items()}
        return Reputation({**self.standings, **seen})

    def malformed(self, devices: Iterable[str]) -> Reputation:
        """After a round in which these devices sent what was no update."""
        return Reputation({**self.standings, **{device: self.of(device).malformed() for device in devices}})

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """As JSON values; what stands beside the model of the round it belongs to."""
        return {device: asdict(standing) for device, standing in sorted(self.standings.items())}

    @classmethod
    def from_dict(cls, said: Mapping[str, Mapping[str, Any]]) -> Reputation:
        """What `as_dict` gave; ValueError when it is something else."""
        try:
            return cls({device: Standing(**standing) for device, standing in said.items()})
        except TypeError as error:
            raise ValueError(f"these are no standings of devices: {error}") from error
