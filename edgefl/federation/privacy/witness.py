"""The coordinator's memory of what devices have spent: a device cannot see that its whole ledger was put back; the journal can.

What is seen is evidence and no more: the device's own ledger stays the authority, since a coordinator must not be able to
make a device believe that it has spent less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgefl.events.schema import FlagRaised

TOLERANCE = 0.02
"""Two compositions of nearly the same history may differ by as much: the accountant's grid is 0.01 wide."""


class Spending(Protocol):
    """What a device's ledger says after a round."""

    @property
    def spent(self) -> float: ...  # noqa: D102
    @property
    def delta(self) -> float: ...  # noqa: D102
    @property
    def cost(self) -> float: ...  # noqa: D102


@dataclass(slots=True)
class Witness:
    """The most that each device has ever reported, by device and delta: epsilon of one delta says nothing about another's."""

    most: dict[tuple[str, float], float] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Witness:
        """From a journal's records of the kind `privacy_spent`; one that cannot be read is no evidence."""
        witness = cls()
        for record in records:
            body = record["body"]
            try:
                witness._remember(str(body["device"]), float(body["delta"]), float(body["spent"]))
            except (KeyError, TypeError, ValueError):
                continue
        return witness

    def look(self, device: str, said: Spending, *, again: bool = False) -> FlagRaised | None:
        """The flag that a report deserves: for a ledger that, before this round, had less in it than was reported at its delta.

        Spent minus the round's own cost is what the ledger had: who takes a budget back and spends it once more reports the same
        sum again. again: a coordinator that died may ask for an answer once more; then the same sum is no finding.
        """
        before, had = self.most.get((device, said.delta), 0.0), said.spent - said.cost
        self._remember(device, said.delta, said.spent)
        if had >= before - TOLERANCE or (again and said.spent == before):
            return None
        return FlagRaised(
            device=device,
            rule="ledger",
            score=had,
            threshold=before,
            peers=[],
            reason=f"its ledger says that epsilon {had:.3f} was spent before, and the journal has seen {before:.3f}: "
            "the ledger was rolled back or replaced",
        )

    def _remember(self, device: str, delta: float, spent: float) -> None:
        self.most[device, delta] = max(spent, self.most.get((device, delta), 0.0))
