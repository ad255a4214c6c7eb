"""What the journal has seen of ledgers: less than before is a ledger that was put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.events import schema as events
from edgefl.events.journal import Journal
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyTerms
from edgefl.federation.privacy.witness import Witness

PLAN = PrivacyPlan(
    PrivacyTerms(epsilon_limit=8.0, epsilon_per_run=4.0, delta=1e-5, max_grad_norm=1.0, rounds=10),
    records=4000,
    sampling_rate=0.128,
    steps=32,
    sigma=2.6,
)


def spent(device: str, epsilon: float, delta: float = 1e-5) -> events.PrivacySpent:
    return events.PrivacySpent(
        device=device, spent=epsilon, limit=8.0, delta=delta, sigma=2.6, sampling_rate=0.1, run_spent=epsilon
    )


@pytest.mark.slow
def test_a_ledger_put_back_whole_is_trusted_by_its_device_and_flagged_by_the_journal(tmp_path: Path) -> None:
    directory = tmp_path / "ledger"
    ledger = Ledger(directory / "ledger.db")
    journal = Journal(tmp_path / "journal.db")
    journal.append(spent("edge-1", ledger.charge(PLAN, "1", 1).spent))
    older = {file.name: file.read_bytes() for file in directory.iterdir()}
    for number in (2, 3, 4):
        journal.append(spent("edge-1", ledger.charge(PLAN, "1", number).spent))
    for name, content in older.items():
        (directory / name).write_bytes(content)

    witness = Witness.of(journal.records(kind="privacy_spent"))
    report = Ledger(directory / "ledger.db").charge(PLAN, "2", 1)
    flag = witness.look("edge-1", report)
    assert flag is not None
    assert (flag.device, flag.rule, flag.score) == ("edge-1", "ledger", report.spent - report.cost)
    assert flag.threshold > flag.score
    assert "rolled back" in flag.reason


@pytest.mark.slow
def test_a_budget_that_is_taken_back_and_spent_once_more_is_flagged_though_the_sum_is_the_same(tmp_path: Path) -> None:
    directory = tmp_path / "ledger"
    ledger = Ledger(directory / "ledger.db")
    witness = Witness()
    first = ledger.charge(PLAN, "1", 1)
    assert witness.look("edge-1", first) is None
    older = {file.name: file.read_bytes() for file in directory.iterdir()}
    second = ledger.charge(PLAN, "1", 2)
    assert witness.look("edge-1", second) is None
    assert witness.look("edge-1", second, again=True) is None, "the same answer, to a coordinator that died and asks again"
    for name, content in older.items():
        (directory / name).write_bytes(content)
    replayed = Ledger(directory / "ledger.db").charge(PLAN, "2", 1)
    assert replayed.spent == second.spent
    flag = witness.look("edge-1", replayed)
    assert flag is not None
    assert (flag.score, flag.threshold) == (pytest.approx(first.spent), second.spent)


def test_more_than_before_another_device_and_another_delta_are_no_findings(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.append_all([spent("edge-1", 2.0), spent("edge-1", 1.0), events.DeviceDropped(device="edge-1", reason="")])
    witness = Witness.of(journal.records(kind="privacy_spent"))
    assert witness.look("edge-1", spent("edge-1", 2.5)) is None
    assert witness.look("edge-2", spent("edge-2", 0.1)) is None
    assert witness.look("edge-1", spent("edge-1", 0.1, delta=1e-6)) is None
    assert witness.look("edge-1", spent("edge-1", 2.49)) is None, "within the accountant's own grid"
    assert witness.look("edge-1", spent("edge-1", 2.0)) is not None


def test_a_record_that_cannot_be_read_is_no_evidence() -> None:
    assert Witness.of([{"body": {}}, {"body": "?"}, {"body": {"device": "a", "delta": "x", "spent": 1}}]).most == {}
