"""What ledgers say: the devices' own, and the coordinator's where it protects whole devices."""

from __future__ import annotations

from typing import Literal

from edgefl.events.body import Body


class PrivacySpent(Body):
    """A copy of what the device's own ledger says after a round; the device is the authority. cost: how much the round added."""

    type: Literal["privacy_spent"] = "privacy_spent"
    device: str
    spent: float
    limit: float
    delta: float
    sigma: float
    sampling_rate: float
    run_spent: float
    rounds_left: int | None = None
    cost: float = 0.0


class PrivacyRefused(Body):
    """The device refused a round that its budget does not cover."""

    type: Literal["privacy_refused"] = "privacy_refused"
    device: str
    spent: float
    limit: float
    cost: float
    reason: str


class ModelPrivacySpent(Body):
    """What the coordinator's ledger says of a round in which it protected whole devices (federation/privacy/release.py).

    sigma: the round's noise as it is accounted. cost: how much the round added. clip: the bound of this round's updates;
    next_clip: of the next round's. A round that is done again after a crash says the same again: it was paid for once.
    """

    type: Literal["model_privacy_spent"] = "model_privacy_spent"
    spent: float
    limit: float
    delta: float
    sigma: float
    run_spent: float
    rounds_left: int | None = None
    cost: float = 0.0
    clip: float
    next_clip: float
