"""Which privacy budgets end before a run does, from what the journal has seen of the ledgers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from edgefl.progress import Warned

if TYPE_CHECKING:
    from edgefl.monitor.state import FederationState
    from edgefl.site.model import Site


def unlasting(site: Site, state: FederationState, rounds: int, stage: str) -> Iterator[Warned]:
    """A warning for each budget of the site's privacy mode that ends before the run does."""
    if site.privacy.mode == "dp-sgd":
        yield from shortages(state, [device.name for device in site.devices], rounds, stage)
    elif site.privacy.mode == "client" and state.models is not None:
        left = state.models.rounds_left
        if left is not None and left < rounds:
            covers = f"runs out in round {left + 1} of {rounds}" if left else "covers no round"
            hint = "raise privacy.epsilon_limit" + (f", or train {left} rounds" if left else "")
            yield Warned(stage, "the models", f"the coordinator's privacy budget {covers}", hint=hint)


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
