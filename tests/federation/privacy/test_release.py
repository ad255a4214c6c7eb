"""The coordinator's ledger of what it gives out: each step is paid for once, whatever dies in between."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opacus.accountants import PRVAccountant

from edgefl.events.schema import ModelPrivacySpent
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.privacy.ledger import Ledger, LedgerBroken
from edgefl.federation.privacy.release import DIRECTORY, ClientPrivacy, ModelsSpent, counted
from edgefl.federation.rounds import Plan, RunInvalid

DELTA = 1e-3
DEVICES = tuple(f"d-{number}" for number in range(100))


class Died(BaseException):
    """The coordinator's process ends here."""


def host(privacy: dict[str, Any] | None = None, **sections: Any) -> HostConfig:
    terms = {"mode": "client", "epsilon_per_run": 4.0, "epsilon_limit": 6.0, "delta": DELTA, **(privacy or {})}
    coordinator = {"name": "coordinator", "address": "192.0.2.1"}
    known = {"site": "s", "name": "coordinator", "role": "coordinator", "coordinator": coordinator, "devices": list(DEVICES)}
    return HostConfig.model_validate({**known, "privacy": terms, **sections})


def planned(run: str = "1", *, rounds: int = 3, resume: str = "", first: int = 1, rule: str = "mean") -> Plan:
    return Plan(run, DEVICES, rounds, first, 70, 1.0, 7, rule, 0.0, resume=resume)


def opened(models: Path, plan: Plan | None = None, last: ModelPrivacySpent | None = None, **privacy: Any) -> ClientPrivacy:
    clients = ClientPrivacy.open(host(privacy), plan or planned(), models, last)
    assert clients is not None
    return clients


def step(clients: ClientPrivacy, round_: int, seed: int = 0) -> tuple[np.ndarray, ModelPrivacySpent]:
    deltas = np.random.default_rng([seed, round_]).normal(size=(90, 10)).astype(np.float32)
    return clients.step(deltas, [1.0] * 90, round_)


def charges(models: Path) -> list[tuple[str, int]]:
    return [(charge.run, charge.round) for charge in Ledger(models / DIRECTORY / "ledger.db").charges()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:divide by zero")  # Opacus' own, at a sampling rate of 1
def test_twenty_rounds_over_three_restarts_cost_what_opacus_composes(tmp_path: Path) -> None:
    """The coordinator dies in rounds 5, 10 and 15, after it gave out their steps and before they counted."""
    direct, counts, last = PRVAccountant(), None, None
    for first, dies in ((1, 5), (5, 10), (10, 15), (15, 20)):
        run = planned(str(first), rounds=20, resume="" if first == 1 else "1", first=first)
        clients = opened(tmp_path, run, counts, clipping="adaptive")
        for round_ in range(first, dies + 1):
            counts, last = last, step(clients, round_)[1]
    for _ in range(20):
        direct.step(noise_multiplier=clients.plan.sigma, sample_rate=1.0)
    assert last.spent == pytest.approx(direct.get_epsilon(DELTA), abs=1e-9)
    assert last.run_spent == last.spent
    assert last.spent <= 4.0
    assert Ledger(tmp_path / DIRECTORY / "ledger.db").spent(DELTA) == last.spent
    assert charges(tmp_path) == [("1", round_) for round_ in range(1, 21)]


@pytest.mark.slow
def test_the_bill_goes_on_over_runs_until_a_run_is_refused_before_it_begins(tmp_path: Path) -> None:
    spent: list[float] = []

    def train(*runs: int) -> None:
        for run in runs:
            clients = opened(tmp_path, planned(str(run)))
            for round_ in range(1, 4):
                paid = step(clients, round_)[1]
                assert paid.cost == pytest.approx(paid.spent - (spent[-1] if spent else 0.0))
                spent.append(paid.spent)

    train(1)
    assert 3.9 < spent[-1] <= 4.0
    with pytest.raises(ModelsSpent, match=r"of 6 at delta 0.001.*another round") as refused:
        train(*range(2, 10))
    assert "epsilon_limit" in refused.value.hint
    assert spent == sorted(spent)
    assert 4.0 < spent[-1] <= 6.0
    assert len(charges(tmp_path)) == len(spent), "what was refused is not charged"
    assert opened(tmp_path, planned("10"), epsilon_limit=9.0), "a raised limit lets the models go on"


@contextmanager
def death(before: int, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Die before the n-th effect on the disk; yields the effects that were had."""
    had: list[str] = []

    def lethal(name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **options: Any) -> Any:
            if len(had) + 1 == before:
                raise Died(name)
            had.append(name)
            return effect(*arguments, **options)

        return done

    with patch.context() as context:
        context.setattr(os, "fsync", lethal("fsync", os.fsync))
        context.setattr(Path, "replace", lethal("replace", Path.replace))
        context.setattr(Ledger, "_append", lethal("charge", Ledger._append))
        yield had


EFFECTS = ["fsync", "replace", "fsync", "charge", "fsync", "replace", "fsync"]
"""The step, the charge, and the charge's head."""


@pytest.mark.slow
def test_a_step_is_on_the_disk_before_it_is_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = opened(tmp_path)
    with death(99, monkeypatch) as had:
        step(clients, 1)
    assert had == EFFECTS


@pytest.mark.slow
@pytest.mark.parametrize("effect", range(1, len(EFFECTS) + 2))
def test_a_round_is_charged_once_wherever_the_coordinator_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: int
) -> None:
    clients = opened(tmp_path, clipping="adaptive")
    _, first = step(clients, 1)
    seen = None
    try:
        with death(effect, monkeypatch):
            seen = step(clients, 2)
    except Died:
        pass
    resumed = opened(tmp_path, planned("2", resume="1", first=2), first, clipping="adaptive")
    assert resumed.clipping.bound == first.next_clip
    again, paid = step(resumed, 2, seed=1)  # other devices answer this time
    if seen is not None:
        np.testing.assert_array_equal(again, seen[0], "what was given out is given out again")
        assert paid == seen[1]
    _, last = step(resumed, 3)
    assert charges(tmp_path) == [("1", 1), ("1", 2), ("1", 3)]
    assert first.spent < paid.spent < last.spent == last.run_spent
    assert first.next_clip == paid.clip
    assert paid.next_clip == last.clip
    assert last.next_clip == resumed.clipping.bound


def test_a_step_that_was_paid_for_and_lost_is_paid_again(tmp_path: Path) -> None:
    seen, first = step(opened(tmp_path), 1)
    (tmp_path / DIRECTORY / "step.safetensors").unlink()
    again, second = step(opened(tmp_path), 1)
    assert not (seen == again).any(), "other noise on the same updates"
    assert second.spent > first.spent
    assert charges(tmp_path) == [("1", 1), ("1", 1)]


def test_a_second_step_that_nobody_paid_for_is_not_taken_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Round 1 was paid for and lost; its second step stood, and the coordinator died before it was charged."""
    step(opened(tmp_path), 1)
    (tmp_path / DIRECTORY / "step.safetensors").unlink()
    clients = opened(tmp_path)
    with death(EFFECTS.index("charge") + 1, monkeypatch), pytest.raises(Died):
        step(clients, 1)
    assert charges(tmp_path) == [("1", 1)]
    step(opened(tmp_path), 1)
    assert charges(tmp_path) == [("1", 1), ("1", 1)]


def test_another_training_never_gets_this_ones_step(tmp_path: Path) -> None:
    one, _ = step(opened(tmp_path), 1)
    other, _ = step(opened(tmp_path, planned("2")), 1)
    assert not (one == other).any()
    assert charges(tmp_path) == [("1", 1), ("2", 1)]


@pytest.mark.slow
def test_the_last_round_that_was_paid_for_can_be_done_again_without_a_budget(tmp_path: Path) -> None:
    clients = opened(tmp_path, epsilon_limit=4.0)
    for round_ in (1, 2, 3):
        seen, spent = step(clients, round_)
    assert spent.rounds_left == 0
    again, _ = step(opened(tmp_path, planned("2", resume="1", first=3), spent, epsilon_limit=4.0), 3)
    np.testing.assert_array_equal(seen, again)
    with pytest.raises(ModelsSpent):
        opened(tmp_path, planned("3"), epsilon_limit=4.0)


def test_a_ledger_that_was_put_back_gives_out_nothing(tmp_path: Path) -> None:
    clients = opened(tmp_path)
    step(clients, 1)
    older = clients.ledger.path.read_bytes()
    step(clients, 2)
    clients.ledger.path.write_bytes(older)
    with pytest.raises(LedgerBroken, match="rolled back"):
        step(clients, 3)


def test_a_ledger_that_was_put_back_whole_is_seen_by_the_journal(tmp_path: Path) -> None:
    told = [{"body": step(opened(tmp_path), 1)[1].model_dump()}]
    assert ClientPrivacy.open(host(), planned(), tmp_path, None, told)
    for file in (tmp_path / DIRECTORY).iterdir():
        file.unlink()
    with pytest.raises(LedgerBroken, match=r"says that epsilon 0.000 is spent, and the journal has seen \d"):
        ClientPrivacy.open(host(), planned(), tmp_path, None, told)
    other = [{"body": {**told[0]["body"], "delta": 1e-6}}]
    assert ClientPrivacy.open(host(), planned(), tmp_path, None, other), "epsilon at one delta says nothing of another's"


def test_other_modes_have_no_such_ledger(tmp_path: Path) -> None:
    for mode in ("none", "dp-sgd"):
        assert ClientPrivacy.open(host({"mode": mode}), planned(), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rule", "sections", "why"),
    [
        ("guard", {}, "guard judges an update by the others"),
        ("mean", {"secure": {"mode": "masked"}}, "masked sums hide"),
        ("mean", {"run": {"selection": {"strategy": "performance"}}}, "performance chooses by what devices report"),
    ],
)
def test_a_run_that_nothing_bounds_is_refused_though_the_site_was_not(
    tmp_path: Path, rule: str, sections: dict[str, Any], why: str
) -> None:
    with pytest.raises(RunInvalid, match=why):
        ClientPrivacy.open(host(**sections), planned(rule=rule), tmp_path)


def test_a_sum_is_divided_by_whom_a_round_counts_on_whoever_comes() -> None:
    assert counted(host(), planned()) == 100
    assert counted(host(run={"selection": {"strategy": "random", "share": 0.8}}), planned()) == 80
    assert counted(host(run={"mode": "asynchronous"}), planned()) == 70
