"""Which devices' privacy budgets end before a run does, from what the journal has seen of their ledgers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from edgefl.progress import Warned

if TYPE_CHECKING:
    from edgefl.monitor.state import FederationState


def shortages(state: FederationState, devices: Collection[str], rounds: int, stage: str) -> Iterator[Warned]:
    """A warning for each device whose ledger covers fewer rounds than the run has; a device that never trained is not known.

    The forecast is the device's own, for rounds like its last one.
    """
    for name in devices:
        row = state.devices.get(name)
        left = row.epsilon.rounds_left if row is not None else None
        if left is None or left >= rounds:
            continue
        what = f"its privacy budget runs out in round {left + 1} of {rounds}" if left else "its privacy budget covers no round"
        yield Warned(
            stage, name, what, hint=f"raise its epsilon_limit, or train {left} rounds" if left else "raise its epsilon_limit"
        )
