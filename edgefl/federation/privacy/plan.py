"""How a device trains privately: the limits it obeys, and the noise solved from them for its own number of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefl.errors import EdgeflError, ExitCode
from edgefl.federation.outline import Parameters
from edgefl.federation.privacy.accounting import LARGEST_EXACT, MIN_SIGMA, Steps, epsilon, solve_sigma

MIN_RECORDS = 32
"""With fewer, one update says too much of each record (a batch of one leaks its record analytically)."""


class PrivacyRefused(EdgeflError):
    """The device does not train, because its privacy terms would not hold."""

    exit_code = ExitCode.BUDGET


class BudgetExceeded(PrivacyRefused):
    """A round would bring the device above its epsilon limit. The figures are what the event `privacy_refused` says."""

    def __init__(self, spent: float, limit: float, cost: float, delta: float) -> None:
        self.spent, self.limit, self.cost, self.delta = spent, limit, cost, delta
        super().__init__(
            f"it would bring epsilon from {spent:.3f} to {spent + cost:.3f}, above the limit {limit:g} at delta {delta:g}",
            hint="raise privacy.epsilon_limit, or let this device rest: what it has spent stays spent",
        )


@dataclass(frozen=True, slots=True)
class PrivacyTerms:
    """What the device's own configuration demands; nothing that a coordinator sends changes it.

    epsilon_limit: most that the device may ever spend at delta. epsilon_per_run: what a whole run of `rounds` rounds costs;
    the noise is solved from it. max_grad_norm: L2 bound of one record's gradient.
    """

    epsilon_limit: float
    epsilon_per_run: float
    delta: float
    max_grad_norm: float
    rounds: int

    @classmethod
    def from_host(cls, host: Mapping[str, Any]) -> PrivacyTerms | None:
        """The terms in a device's host.json; None where the device trains without privacy of its own.

        The device's own `epsilon_limit` and `epsilon_per_run` count where they are smaller than the site's.
        """
        privacy = host["privacy"]
        if privacy["mode"] != "dp-sgd":
            return None

        def smaller(name: str) -> float:
            own = host.get(name)
            return float(privacy[name]) if own is None else min(float(privacy[name]), float(own))

        return cls(
            epsilon_limit=smaller("epsilon_limit"),
            epsilon_per_run=smaller("epsilon_per_run"),
            delta=float(privacy["delta"]),
            max_grad_norm=float(privacy["max_grad_norm"]),
            rounds=int(host["run"]["rounds"]),
        )


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """One device's DP-SGD: each of `steps` steps a round samples every record with probability `sampling_rate`."""

    terms: PrivacyTerms
    records: int
    sampling_rate: float
    steps: int
    sigma: float

    @property
    def expected_batch(self) -> float:
        """Mean number of records in a step; what the summed gradient is divided by, whatever was drawn."""
        return self.sampling_rate * self.records

    @property
    def a_round(self) -> Steps:
        """What one round does, as the accountant counts it."""
        return Steps(self.sigma, self.sampling_rate, self.steps)

    @property
    def round_cost(self) -> float:
        """Epsilon of the first round of a device that has spent nothing; later rounds cost less each."""
        return epsilon([self.a_round], self.terms.delta)

    @property
    def run_cost(self) -> float:
        """Epsilon of a whole run of a device that has spent nothing; at most `epsilon_per_run`."""
        return epsilon([self.a_round] * self.terms.rounds, self.terms.delta)


def shape_of(records: int, parameters: Parameters) -> tuple[float, int]:
    """Sampling rate and steps a round for a device's number of records.

    A batch is `batch_size` records on average; `local_epochs` passes make the steps, at least one.
    """
    sampling_rate = min(1.0, float(parameters["batch_size"]) / records)
    return sampling_rate, max(1, round(float(parameters["local_epochs"]) / sampling_rate))


def plan(terms: PrivacyTerms, records: int, parameters: Parameters, known_sigma: float | None = None) -> PrivacyPlan:
    """Solve the noise for this device.

    known_sigma: what an earlier solution for the same terms and shape gave, to save solving again (the ledger keeps it).
    Raises PrivacyRefused for terms that promise nothing: fewer records than MIN_RECORDS, a delta of 1/records or more, a batch
    of all records where a sample was meant, or noise so small that it is decorative.
    """
    if records < MIN_RECORDS:
        raise PrivacyRefused(
            f"{records} records are too few to train privately on; {MIN_RECORDS} is the least",
            hint="leave this device out, or give it more data",
        )
    if terms.delta >= 1 / records:
        raise PrivacyRefused(
            f"delta {terms.delta:g} promises nothing for {records} records: it must be below {1 / records:.1g}",
            hint="lower privacy.delta",
        )
    sampling_rate, steps = shape_of(records, parameters)
    try:
        sigma = known_sigma or solve_sigma(terms.epsilon_per_run, terms.delta, sampling_rate, steps * terms.rounds)
    except ValueError as error:
        raise PrivacyRefused(str(error), hint="raise privacy.epsilon_per_run, or train fewer rounds or local_epochs") from error
    if sigma <= MIN_SIGMA or terms.epsilon_per_run > LARGEST_EXACT:
        raise PrivacyRefused(
            f"epsilon {terms.epsilon_per_run:g} a run asks for noise of sigma {sigma:.2g} at most: it would be decorative",
            hint="lower privacy.epsilon_per_run, or set privacy.mode: none and claim nothing",
        )
    return PrivacyPlan(terms, records, sampling_rate, steps, sigma)
