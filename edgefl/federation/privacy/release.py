"""What the coordinator gives out of whole devices' updates: each step is paid for once, whatever dies in between.

A step is on the disk before it is charged, and charged before anybody sees it. A round that is done again after a crash finds

| the crash came | on the disk | so the round |
|---|---|---|
| before the step stood | nothing of it | makes a step, and pays |
| between step and charge | a step that nobody paid for, so nobody saw | makes another, and pays |
| after the charge | a step that is paid for, and may have been seen | gives out the very same, and pays no second time |

A step that is paid for and gone (deleted, damaged) may have been seen: another one has other noise on the same updates, and pays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgefl.events.schema import ModelPrivacySpent
from edgefl.federation.aggregation.vectors import Matrix, Vector
from edgefl.federation.checkpoint import write
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.privacy.accounting import epsilon, rounds_left
from edgefl.federation.privacy.clients import Clipping, client_plan
from edgefl.federation.privacy.ledger import Charge, Ledger, LedgerBroken
from edgefl.federation.privacy.plan import BudgetExceeded, PrivacyPlan, PrivacyRefused
from edgefl.federation.privacy.witness import TOLERANCE
from edgefl.federation.rounds import Plan, RunInvalid
from edgefl.site.modes import unbounded

Record = Mapping[str, Any]

DIRECTORY = "privacy"
"""In the models' directory: the coordinator's ledger, and the last step."""


class ModelsSpent(PrivacyRefused):
    """The models that were given out have spent what the site allows; no more are."""

    def __init__(self, spent: float, limit: float, delta: float) -> None:
        super().__init__(
            f"the models have spent epsilon {spent:.3f} of {limit:g} at delta {delta:g}: another round would go above it",
            hint="raise privacy.epsilon_limit and edgefl up, or keep the last model: what is spent stays spent",
        )


class Ready(NamedTuple):
    """A step that was made. seq: the charge that pays for it. clip, next_clip: the bound before it and after it."""

    step: Vector
    seq: int
    clip: float
    next_clip: float


@dataclass(slots=True)
class ClientPrivacy:
    """One training's share of the coordinator's ledger, which outlives runs. clipping: the next round's."""

    plan: PrivacyPlan
    training: str
    clipping: Clipping
    ledger: Ledger

    @classmethod
    def open(
        cls, host: HostConfig, run: Plan, models: Path, last: ModelPrivacySpent | None = None, told: Iterable[Record] = ()
    ) -> ClientPrivacy | None:
        """None where the site has another mode.

        last: of the round that a resumed run goes on from. told: the journal's records of the kind `model_privacy_spent`. Raises
        RunInvalid for a run whose rules or modes leave no bound to account for; PrivacyRefused where the terms are empty;
        ModelsSpent where not even one round fits the budget; LedgerBroken where it says less than the journal has seen.
        """
        privacy = host.privacy
        if privacy.mode != "client":
            return None
        for _, what, works in unbounded(run.rule, host.secure.mode, host.run.selection.strategy):
            raise RunInvalid(what, hint=works)
        ledger = Ledger(models / DIRECTORY / "ledger.db")
        plan = client_plan(privacy, len(run.devices), run.rounds, ledger.known_sigma)
        adapts = privacy.clipping == "adaptive"
        bound = last.next_clip if last is not None and adapts else privacy.clip_norm
        clipping = Clipping(bound, plan.sigma, counted(host, run), adapts)
        opened = cls(plan, run.training, clipping, ledger)
        opened._check_budget(run.first_round, told)
        return opened

    def _check_budget(self, round_: int, told: Iterable[Record]) -> None:
        charges, terms = self.ledger.charges(), self.plan.terms
        spent = epsilon([charge.of for charge in charges], terms.delta)
        seen = max((float(one["body"]["spent"]) for one in told if one["body"]["delta"] == terms.delta), default=0.0)
        if seen > spent + TOLERANCE:
            why = f"it says that epsilon {spent:.3f} is spent, and the journal has seen {seen:.3f}: it was put back"
            raise LedgerBroken(self.ledger.path, why)
        if self._ready(charges, round_) is not None:
            return  # its last round may be paid for already
        if rounds_left([charge.of for charge in charges], self.plan.a_round, terms.delta, terms.epsilon_limit) < 1:
            raise ModelsSpent(spent, terms.epsilon_limit, terms.delta)

    def step(self, deltas: Matrix, weights: Sequence[float], round_: int) -> tuple[Vector, ModelPrivacySpent]:
        """The round's private step, (p,) float32, and what the ledger says of it. deltas: (n, p), clipped in place; weights: see
        Clipping.

        Raises ModelsSpent, with nothing given out, where the budget does not cover the round; LedgerBroken; CheckpointUnusable.
        """
        charges = self.ledger.charges()
        ready = self._ready(charges, round_)
        if ready is None or ready.step.shape != (deltas.shape[1],):
            step, after = self.clipping.aggregate(deltas, weights)
            ready = Ready(step, len(charges) + 1, self.clipping.bound, after.bound)
            self._keep(ready, round_)
            try:
                self.ledger.charge(self.plan, self.training, round_)
            except BudgetExceeded as over:
                raise ModelsSpent(over.spent, over.limit, over.delta) from over
            charges = self.ledger.charges()
        if self.clipping.adapts:
            self.clipping = replace(self.clipping, bound=ready.next_clip)
        paid, delta = charges[ready.seq - 1], self.plan.terms.delta
        spent = epsilon([charge.of for charge in charges], delta)
        return ready.step, ModelPrivacySpent(
            spent=spent,
            limit=self.plan.terms.epsilon_limit,
            delta=delta,
            sigma=paid.sigma,
            run_spent=epsilon([charge.of for charge in charges if charge.run == self.training], delta),
            rounds_left=charges[-1].rounds_left,
            cost=spent - epsilon([charge.of for charge in charges if charge is not paid], delta),
            clip=ready.clip,
            next_clip=ready.next_clip,
        )

    @property
    def _file(self) -> Path:
        return self.ledger.path.with_name("step.safetensors")

    def _keep(self, ready: Ready, round_: int) -> None:
        about = {"training": self.training, "round": str(round_), "seq": str(ready.seq)}
        bounds = {"clip": repr(ready.clip), "next_clip": repr(ready.next_clip)}
        write(self._file, save({"step": ready.step}, {**about, **bounds}))

    def _ready(self, charges: Sequence[Charge], round_: int) -> Ready | None:
        """The step of this round that is paid for; None where there is none, or it is gone."""
        try:
            with safe_open(self._file, "numpy") as kept:
                about = kept.metadata() or {}
                found = Ready(kept.get_tensor("step"), int(about["seq"]), float(about["clip"]), float(about["next_clip"]))
                of = about["training"], int(about["round"])
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        if of != (self.training, round_) or not 1 <= found.seq <= len(charges):
            return None
        paid = charges[found.seq - 1]
        return found if (paid.run, paid.round) == of else None


def counted(host: HostConfig, run: Plan) -> int:
    """How many devices a round counts on, whoever comes: what its sum is divided by. An asynchronous round is its quorum."""
    if host.run.mode == "asynchronous":
        return run.quorum
    return host.run.selection.asked(len(run.devices), run.quorum)
