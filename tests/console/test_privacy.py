"""What the privacy view says about ledgers, and when it says it."""

from __future__ import annotations

from datetime import timedelta

from edgefl.console.ink import plain
from edgefl.console.live import Frame, Link
from edgefl.console.views.privacy import COLUMNS, COORDINATOR, Privacy, budgets, forecast
from edgefl.events.schema import AuditFinished, Event, ModelPrivacySpent, PrivacyRefused, RunFinished
from edgefl.monitor.state import FederationState

from .conftest import BEGAN, DEVICES


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


def test_the_forecast_falls_by_one_at_each_end(state: FederationState) -> None:
    points = forecast(budgets(state), state).points
    assert points[:3] == ((30.0, 10.0), (34.0, 10.0), (35.0, 9.0))
    assert points[-1][1] == 0.0
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


def test_without_a_run_the_forecast_counts_the_rounds_of_the_next(state: FederationState) -> None:
    over = after(state, RunFinished(status="completed", accuracy=0.9, loss=0.3))
    rows = budgets(over)
    assert next(row.ends for row in rows if row.name == "edge-03") == 4 + 1
    assert all(row.lasts for row in rows)
    assert forecast(rows, over).points[:3] == ((0.0, 10.0), (4.0, 10.0), (5.0, 9.0))
    assert "no run is on; all 10 budgets last 4 rounds" in words(over)


def test_a_refusal_stands_above_every_forecast(state: FederationState) -> None:
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
    assert "✖ audit: membership 2h ago" in told
    assert "AUC 0.71" in told
