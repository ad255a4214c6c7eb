"""The ledger: what it composes, what it refuses, and what it notices."""

import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant

from edgefl.errors import ExitCode
from edgefl.federation.privacy.ledger import Ledger, LedgerBroken
from edgefl.federation.privacy.plan import BudgetExceeded, PrivacyPlan, PrivacyTerms

DELTA = 1e-5


def planned(*, sigma: float = 2.6, limit: float = 8.0, steps: int = 32) -> PrivacyPlan:
    terms = PrivacyTerms(epsilon_limit=limit, epsilon_per_run=4.0, delta=DELTA, max_grad_norm=1.0, rounds=10)
    return PrivacyPlan(terms, records=4000, sampling_rate=0.128, steps=steps, sigma=sigma)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "ledger.db"


def charge_in_a_process_of_its_own(path: Path, run: str, number: int) -> None:
    Ledger(path).charge(planned(), run, number)


@pytest.mark.slow
def test_twenty_rounds_in_two_runs_over_restarts_cost_what_opacus_composes(path: Path) -> None:
    accountant = PRVAccountant()
    for number in range(1, 21):
        plan = planned(sigma=2.6 if number <= 10 else 3.1)
        report = Ledger(path).charge(plan, "first" if number <= 10 else "second", number)  # a new Ledger is a restart
        for _ in range(plan.steps):
            accountant.step(noise_multiplier=plan.sigma, sample_rate=plan.sampling_rate)
        if number in (10, 11, 20):
            assert report.spent == pytest.approx(accountant.get_epsilon(DELTA), abs=1e-9)
    assert Ledger(path).spent(DELTA) == pytest.approx(report.spent, abs=1e-9)
    assert report.run_spent < report.spent
    assert [charge.round for charge in Ledger(path).charges()] == list(range(1, 21))


@pytest.mark.slow
def test_twenty_rounds_over_three_restarts_cost_what_opacus_composes(path: Path) -> None:
    direct, plan = PRVAccountant(), planned()
    for first in (1, 6, 11, 16):
        life = multiprocessing.get_context("fork").Process(target=charge_five_rounds, args=(path, first))
        life.start()
        life.join()
        assert life.exitcode == 0
    direct.history = [(plan.sigma, plan.sampling_rate, 20 * plan.steps)]
    assert [charge.round for charge in Ledger(path).charges()] == list(range(1, 21))
    assert Ledger(path).spent(DELTA) == pytest.approx(direct.get_epsilon(DELTA), abs=1e-9)


def charge_five_rounds(path: Path, first: int) -> None:
    """What a device's process does before it ends."""
    ledger = Ledger(path)
    for number in range(first, first + 5):
        ledger.charge(planned(), "run", number)


ROUNDS = st.tuples(st.floats(0.9, 4.0), st.floats(0.01, 0.15), st.integers(1, 40), st.booleans())
"""Sigma, sampling rate and steps of a round; whether the device starts anew before it."""


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(ROUNDS, min_size=1, max_size=4))
def test_any_history_with_any_restarts_costs_what_opacus_composes(rounds: list[tuple[float, float, int, bool]]) -> None:
    direct = PRVAccountant()
    direct.history = [(sigma, rate, steps) for sigma, rate, steps, _ in rounds]
    with TemporaryDirectory() as root:
        path = Path(root) / "ledger.db"
        ledger = Ledger(path)
        for number, (sigma, rate, steps, anew) in enumerate(rounds, start=1):
            ledger = Ledger(path) if anew else ledger
            charged = replace(planned(sigma=sigma, limit=100.0, steps=steps), sampling_rate=rate)
            report = ledger.charge(charged, "run", number)
        assert report.spent == pytest.approx(direct.get_epsilon(DELTA), abs=1e-9)
        assert Ledger(path).spent(DELTA) == pytest.approx(report.spent, abs=1e-9)


@pytest.mark.slow
def test_the_report_says_what_the_round_added_and_how_many_fit_still(path: Path) -> None:
    first = Ledger(path).charge(planned(), "a", 1)
    second = Ledger(path).charge(planned(), "a", 2)
    assert first.cost == first.spent == first.run_spent
    assert second.cost == pytest.approx(second.spent - first.spent)
    assert second.cost < first.cost
    assert second.rounds_left == first.rounds_left - 1
    assert (second.limit, second.delta, second.sigma, second.sampling_rate) == (8.0, DELTA, 2.6, 0.128)


def test_a_round_above_the_limit_is_refused_and_not_written_down(path: Path) -> None:
    ledger = Ledger(path)
    left = ledger.charge(planned(limit=2.0), "a", 1).rounds_left
    for number in range(left):
        report = ledger.charge(planned(limit=2.0), "a", 2 + number)
    assert report.rounds_left == 0
    assert report.spent <= 2.0
    with pytest.raises(BudgetExceeded) as refused:
        ledger.charge(planned(limit=2.0), "a", 99)
    assert refused.value.exit_code is ExitCode.BUDGET
    assert refused.value.spent == pytest.approx(report.spent)
    assert refused.value.spent + refused.value.cost > refused.value.limit == 2.0
    assert len(ledger.charges()) == left + 1
    assert ledger.charge(planned(limit=3.0), "a", 99).spent > 2.0, "a raised limit lets the same device go on"


@pytest.mark.slow
def test_a_round_trained_twice_is_paid_twice(path: Path) -> None:
    once = Ledger(path).charge(planned(), "a", 1)
    assert Ledger(path).charge(planned(), "a", 1).spent > once.spent


@pytest.mark.slow
def test_devices_that_charge_at_the_same_time_lose_nothing(path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=charge_in_a_process_of_its_own, args=(path, "a", number)) for number in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert sorted(charge.round for charge in Ledger(path).charges()) == [1, 2, 3, 4]


@pytest.mark.slow
def test_what_was_solved_before_is_remembered(path: Path) -> None:
    Ledger(path).charge(planned(sigma=2.6), "a", 1)
    assert Ledger(path).known_sigma(Ledger(path).charges()[0].solved) == 2.6
    assert Ledger(path).known_sigma("another question") is None


def tampered(path: Path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE charges SET body = replace(body, '\"sigma\": 2.6', '\"sigma\": 9.6') WHERE seq = 2", "charge 2 was changed"),
        ("DELETE FROM charges WHERE seq = 2", "charge 2 is missing"),
        ("DELETE FROM charges WHERE seq = 3", "it was rolled back"),
        ("DELETE FROM charges", "it was rolled back"),
        ("UPDATE charges SET hash = '00' WHERE seq = 3", "charge 3 was changed"),
        ("DROP TABLE charges", "it was rolled back"),
    ],
)
def test_tampering_is_noticed_and_nothing_is_charged_any_more(path: Path, statement: str, why: str) -> None:
    for number in (1, 2, 3):
        Ledger(path).charge(planned(), "a", number)
    tampered(path, statement)
    with pytest.raises(LedgerBroken, match=why):
        Ledger(path).charges()
    with pytest.raises(LedgerBroken, match=why):
        Ledger(path).charge(planned(), "a", 4)


def test_an_older_copy_in_place_of_the_ledger_is_noticed(path: Path) -> None:
    Ledger(path).charge(planned(), "a", 1)
    older = path.read_bytes()
    Ledger(path).charge(planned(), "a", 2)
    path.write_bytes(older)
    with pytest.raises(LedgerBroken, match="rolled back"):
        Ledger(path).charge(planned(), "a", 3)


def test_a_ledger_that_is_gone_is_no_new_one(path: Path) -> None:
    Ledger(path).charge(planned(), "a", 1)
    path.unlink()
    with pytest.raises(LedgerBroken, match="is gone"):
        Ledger(path).charge(planned(), "a", 2)


@pytest.mark.parametrize("keep", [0, 100, 4096, 5000])
def test_a_torn_database_refuses(path: Path, keep: int) -> None:
    for number in range(1, 4):
        Ledger(path).charge(planned(), "a", number)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LedgerBroken):
        Ledger(path).charge(planned(), "a", 4)


def test_a_torn_head_refuses(path: Path) -> None:
    Ledger(path).charge(planned(), "a", 1)
    head = path.with_name("ledger.db.head")
    head.write_text(head.read_text()[:20])
    with pytest.raises(LedgerBroken):
        Ledger(path).charge(planned(), "a", 2)


def test_a_crash_between_charge_and_head_goes_on(path: Path) -> None:
    Ledger(path).charge(planned(), "a", 1)
    head = path.with_name("ledger.db.head")
    before = head.read_text()
    Ledger(path).charge(planned(), "a", 2)
    head.write_text(before)  # as if the power had gone before the second head was written
    assert Ledger(path).charge(planned(), "a", 3).spent > 0
    assert len(Ledger(path).charges()) == 3


def test_only_the_device_may_read_its_ledger(path: Path) -> None:
    Ledger(path).charge(planned(), "a", 1)
    assert [file.stat().st_mode & 0o077 for file in path.parent.iterdir()] == [0] * len(list(path.parent.iterdir()))


def test_a_directory_that_cannot_be_used_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerBroken, match="not usable"):
        Ledger(tmp_path / "file" / "ledger.db").charge(planned(), "a", 1)
