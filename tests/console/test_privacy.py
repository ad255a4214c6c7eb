"""What the privacy view says about ledgers, and when it says it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from edgefl.console.budgets import COORDINATOR, budgets, lasting, spending
from edgefl.console.ink import plain
from edgefl.console.live import Frame, Link
from edgefl.console.views.privacy import COLUMNS, Privacy
from edgefl.console.widgets.canvas import Series
from edgefl.events.schema import (
    AuditFinished,
    CertificateIssued,
    Event,
    ModelPrivacySpent,
    PrivacyRefused,
    PrivacySpent,
    RunFinished,
)
from edgefl.monitor.state import FederationState

from .conftest import BEGAN, DEVICES
from .driving import until
from .test_app import Recorded, console
from .test_lines import Hosts


def after(state: FederationState, *bodies: object) -> FederationState:
    """The state after these were said, by an event each."""
    at = state.at or BEGAN
    for body in bodies:
        run = state.run.id if state.run else ""
        event = Event.model_construct(seq=state.seq + 1, at=at, run=run, round=0, version=1, body=body, previous="", hash="")
        state = state.apply(event)
    return state


def words(state: FederationState) -> str:
    """What stands beside the forecast."""
    view = Privacy()
    view.show(Frame(state, Link.LIVE, (state.at or BEGAN) + timedelta(hours=2), 0.0))
    return "\n".join(plain(line) for line in view._sheet._lines)


def test_the_round_that_a_ledger_refuses_is_its_own_forecast_counted_from_the_last_round(state: FederationState) -> None:
    rows = {row.name: row for row in budgets(state)}
    assert tuple(rows) == DEVICES
    assert (rows["edge-03"].ends, rows["edge-03"].lasts) == (30 + 4 + 1, False)
    assert rows["edge-01"].lasts
    assert "! 1 of 10 budgets end before round 50" in words(state)
    assert "edge-03 is first, in round 35" in words(state)


def test_the_budgets_that_last_fall_by_one_at_each_end(state: FederationState) -> None:
    points = lasting(budgets(state), state).points
    assert points[:3] == ((30.0, 10.0), (34.0, 10.0), (35.0, 9.0))
    assert points[-1][1] == 0.0
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


def test_without_a_run_the_forecast_counts_the_rounds_of_the_next(state: FederationState) -> None:
    over = after(state, RunFinished(status="completed", accuracy=0.9, loss=0.3))
    rows = budgets(over)
    assert next(row.ends for row in rows if row.name == "edge-03") == 4 + 1
    assert all(row.lasts for row in rows)
    assert lasting(rows, over).points[:3] == ((0.0, 10.0), (4.0, 10.0), (5.0, 9.0))
    assert "no run is on; all 10 budgets last 4 rounds" in words(over)


def test_a_refusal_stands_above_every_lasting(state: FederationState) -> None:
    refusal = PrivacyRefused(device="edge-03", spent=7.9, limit=8.0, cost=0.4, reason="8.3 would pass the limit of 8.0")
    refused = after(state, refusal)
    assert words(refused).lstrip().startswith("edge-03 refused its last round: 8.3 would pass the limit")
    (ends,) = [column for column in COLUMNS if column.key == "refuses"]
    row = next(row for row in budgets(refused) if row.name == "edge-03")
    assert plain(ends.draw(row, 9)) == "✖ refused"


def test_the_coordinators_ledger_comes_first_where_it_has_one(state: FederationState) -> None:
    spent = ModelPrivacySpent(spent=1.5, limit=6.0, delta=1e-5, sigma=1.3, run_spent=1.5, rounds_left=15, clip=1.0, next_clip=1.0)
    own = budgets(after(state, spent))[0]
    assert (own.name, own.ends, own.lasts) == (COORDINATOR, 46, False)


def test_devices_that_never_reported_have_no_row() -> None:
    assert budgets(FederationState.enrolled("net", ["edge-01"], epsilon_limit=8.0)) == []


def test_the_last_audit_of_each_kind_is_told_with_its_age(state: FederationState) -> None:
    assert "no audit yet" in words(state)
    audit = AuditFinished(
        audit="membership", at=state.at or BEGAN, who="anna", passed=False, says="AUC 0.71, more than ε 8 allows"
    )
    told = words(after(state, audit))
    assert f"✖ audit: membership  {audit.at:%Y-%m-%d %H:%M}, 2h ago" in told
    assert "AUC 0.71" in told


def test_an_audit_says_which_version_was_attacked_and_whether_the_run_has_another(state: FederationState) -> None:
    audit = AuditFinished(audit="inversion", at=BEGAN, passed=True, says="PSNR 6 dB", site_hash=state.site_hash)
    assert f"of site.yaml {state.site_hash}\n" in words(after(state, audit)) + "\n"
    other = audit.model_copy(update={"site_hash": "0ther" * 4})
    assert f"of site.yaml 0ther0ther0t; run 4 has {state.site_hash}: audit again" in words(after(state, other))


def test_what_was_spent_goes_on_as_a_forecast_to_the_limit_and_marks_each_refusal(state: FederationState) -> None:
    rows = budgets(state)
    drawn = spending(rows, state)
    assert [x for x, _ in drawn.points] == sorted(x for x, _ in drawn.points)
    assert [x for x, *_ in drawn.band][:30] == [float(round_) for round_ in range(1, 31)], "every round of the past"
    assert (drawn.ahead, drawn.level) == (30.0, 1.0)
    assert drawn.marks == tuple(sorted({float(row.ends) for row in rows if row.ends}))
    shares = sorted(row.epsilon.share for row in rows)
    now = next(ends for x, *ends in drawn.band if x == 30.0)
    assert now == [shares[0], shares[-1]]
    assert drawn.band[-1][1:] == (1.0, 1.0), "all are spent at the last refusal"
    assert all(low <= middle <= high for (_, low, high), (_, middle) in zip(drawn.band, drawn.points, strict=True))


def test_what_ends_far_beyond_the_run_is_not_in_the_picture(state: FederationState) -> None:
    far = PrivacySpent(
        device="edge-01", spent=2.0, limit=8.0, delta=1e-5, sigma=9.0, sampling_rate=0.1, run_spent=1.0, rounds_left=9000
    )
    drawn = spending(budgets(after(state, far)), after(state, far))
    assert drawn.span[1] < 200
    assert max(drawn.marks) < 200


def test_without_a_run_the_last_runs_rounds_lie_before_the_next_ones_first(state: FederationState) -> None:
    over = after(state, RunFinished(status="completed", accuracy=0.9, loss=0.3))
    drawn = spending(budgets(over), over)
    assert drawn.span[0] == 1 - 30
    assert drawn.ahead == 0.0
    assert drawn.marks[0] == 4 + 1


def test_without_a_ledger_there_is_no_curve_and_no_limit() -> None:
    assert spending([], FederationState()) == Series()


@pytest.mark.slow
async def test_l_reads_the_logs_of_the_host_that_keeps_the_ledger(state: FederationState) -> None:
    spent = ModelPrivacySpent(spent=1.5, limit=6.0, delta=1e-5, sigma=1.3, run_spent=1.5, rounds_left=15, clip=1.0, next_clip=1.0)
    gate = CertificateIssued(subject="hub", role="gate", serial="9", not_before=BEGAN, not_after=BEGAN + timedelta(days=1))
    told = after(state, spent, gate)
    hosts = Hosts("hub", *DEVICES)
    async with console(Recorded(told), told.seq, logs=hosts) as (_, pilot):
        await pilot.press("3", "l")
        await until(pilot, lambda: hosts.open == [("hub",)])
        await pilot.press("3", "down", "l")
        await until(pilot, lambda: hosts.open == [("edge-01",)])
