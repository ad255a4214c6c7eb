"""What a site's privacy settings cost, known before anything runs: `python -m edgefl.federation.privacy.cost` prints it as
JSON.

A program, since the accountant brings torch and the operator's process must not. `edgefl check` itself needs no
accountant: it refuses a limit below what a whole run may cost, which is more than one round does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from edgefl.errors import EdgeflError
from edgefl.federation.outline import TRAINING, Parameters
from edgefl.federation.privacy.accounting import rounds_left
from edgefl.federation.privacy.plan import PrivacyTerms, plan


@dataclass(frozen=True, slots=True)
class Cost:
    """One device's privacy, foreseen. fits: the limit covers at least the first round. rounds: how many it covers in all."""

    sigma: float
    sampling_rate: float
    steps: int
    round_cost: float
    run_cost: float
    rounds: int
    fits: bool


def round_cost(terms: PrivacyTerms, records: int, parameters: Parameters) -> Cost:
    """What a device with so many records pays. Raises PrivacyRefused where it would not train at all."""
    planned = plan(terms, records, {**TRAINING, **parameters})
    covered = rounds_left([], planned.a_round, terms.delta, terms.epsilon_limit)
    return Cost(
        sigma=planned.sigma,
        sampling_rate=planned.sampling_rate,
        steps=planned.steps,
        round_cost=planned.round_cost,
        run_cost=planned.run_cost,
        rounds=covered,
        fits=covered > 0,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; exits with the error's code, and prints the error as JSON, where a device would refuse."""
    parser = argparse.ArgumentParser(
        prog="python -m edgefl.federation.privacy.cost", description="What one round and one run cost a device, in epsilon."
    )
    parser.add_argument("--records", type=int, required=True, help="training records of the device")
    parser.add_argument("--parameters", type=json.loads, default={}, help='the task\'s, as JSON: {"batch_size": 64}')
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epsilon-per-run", type=float, default=4.0)
    parser.add_argument("--epsilon-limit", type=float, default=8.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    given = parser.parse_args(arguments)
    terms = PrivacyTerms(given.epsilon_limit, given.epsilon_per_run, given.delta, max_grad_norm=1.0, rounds=given.rounds)
    answer: Mapping[str, object]
    status = 0
    try:
        answer = asdict(round_cost(terms, given.records, given.parameters))
    except EdgeflError as error:
        answer, status = error.as_dict(), int(error.exit_code)
    print(json.dumps(answer))  # noqa: T201  # this is the program's edge
    return status


if __name__ == "__main__":
    sys.exit(main())
