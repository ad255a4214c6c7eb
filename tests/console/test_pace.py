"""A thousand devices cost what a screenful costs: how many rows are made and cells drawn, counted and not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from edgefl.console.rows import Rows
from edgefl.console.summary import Curve
from edgefl.console.view import GridView
from edgefl.console.widgets.grid import Grid
from edgefl.events.schema import CertificateIssued, Event, IsolationProven, PrivacySpent
from edgefl.monitor.evolve import evolve
from edgefl.monitor.state import FederationState

from .conftest import BEGAN
from .driving import until
from .test_app import Live, console

DEVICES = [f"edge-{number:04d}" for number in range(1, 1001)]
SCREEN = 24


def told() -> Iterator[object]:
    for device in DEVICES:
        ends = BEGAN + timedelta(hours=20)
        yield CertificateIssued(subject=device, role="device", serial=device, not_before=BEGAN, not_after=ends)
        yield IsolationProven(device=device, probes=14, open_forbidden=[], closed_required=[], proof_sha256="0")
        yield spent(device, 3.0)


def spent(device: str, epsilon: float) -> PrivacySpent:
    return PrivacySpent(
        device=device, spent=epsilon, limit=8.0, delta=1e-5, sigma=1.1, sampling_rate=0.1, run_spent=1.0, rounds_left=40
    )


def said(seq: int, body: object) -> Event:
    return Event.model_construct(seq=seq, at=BEGAN, run="", round=0, version=1, body=body, previous="", hash="")


@pytest.mark.slow
@pytest.mark.parametrize("view", ["1", "3", "4"])
async def test_an_event_costs_a_screenful_of_rows_and_cells_however_many_devices(
    view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [said(seq, body) for seq, body in enumerate(told(), 1)]
    feed = Live(events)
    made: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    look = Rows.__getitem__

    def counted(rows: Rows[Any, Any], index: Any) -> Any:
        made[str(index)] += 1
        return look(rows, index)

    def watch(grid: Grid[Any]) -> None:
        def of(column: Any) -> Any:
            def draw(row: Any, cells: int) -> Any:
                drawn[f"{grid.key_of(row)} {column.key}"] += 1
                return column.draw(row, cells)

            return replace(column, draw=draw)

        grid._placed = tuple(replace(placed, column=of(placed.column)) for placed in grid._placed)

    async with console(feed, len(events)) as (app, pilot):
        await pilot.press(view)
        top = app.stage.top
        assert isinstance(top, GridView)
        assert top.grid.total in {0, 1000}
        for grid in top.query(Grid):
            watch(grid)
        monkeypatch.setattr(Rows, "__getitem__", counted)
        feed.more.put_nowait(said(len(events) + 1, spent("edge-0003", 5.0)))
        await until(pilot, lambda: app.frame.state.seq > len(events) and bool(made or drawn))
        await pilot.pause()
        assert len({cell.partition(" ")[0] for cell in drawn}) <= SCREEN
        assert len(made) <= SCREEN


def test_a_round_that_has_ended_is_summed_up_once(state: FederationState) -> None:
    asked: Counter[str] = Counter()

    def accuracy(update: Any) -> float | None:
        asked[update.device] += 1
        return float(update.accuracy) if update.accuracy is not None else None

    curve = Curve(lambda row: row.accuracy, accuracy)
    first = curve.over(state.rounds)
    assert first.band
    asked.clear()
    assert curve.over(state.rounds) == first
    assert not asked
    again = (*state.rounds[:-1], evolve(state.rounds[-1], accuracy=0.5))
    assert curve.over(again) != first
    assert set(asked) == set(state.rounds[-1].updates), "what changed is summed up again, and nothing else"
