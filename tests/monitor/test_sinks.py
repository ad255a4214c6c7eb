"""The benchmark of what watches notices what a place that was told lacks."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from edgefl.events.schema import Event, RoundFinished, UpdateReceived
from edgefl.monitor import ecs
from edgefl.monitor.logs import parse
from edgefl.monitor.metrics import exposition
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status
from edgefl.operations.traces import collector
from edgefl.site.model import Site
from tests.monitor.happened import happened
from tests.operations.collector import Collector, collecting

sinks = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "sinks.py")))
FIRST = "round 7/1"


def scraped(events: list[Event]) -> list[dict[str, Any]]:
    """The metrics after these events, in the shape of a query's result."""
    status = Status(state=FederationState().apply_all(events), now=events[-1].at, quorum=2)
    families = text_string_to_metric_families(exposition(lambda: status).decode())
    wanted = {"fl_journal_last_seq", "fl_rounds_total", "fl_model_updates_total"}
    samples = [one for family in families for one in family.samples if one.name in wanted]
    return [{"metric": {"__name__": one.name, **one.labels}, "value": [0, str(one.value)]} for one in samples]


async def told(taking: Collector, events: list[Event]) -> None:
    said = {"name": "clinic", "devices": [{"name": "edge-01"}], "observability": {"traces": {"endpoint": taking.address}}}
    async with collector(Site.model_validate(said)) as exporter:
        for event in events:
            await exporter.take(event, is_new=True)


async def lacking(prometheus: list[Event], collector: list[Event], mlflow: list[str]) -> list[str]:
    """What is lost of a run where each place heard only so much: one round that counted, one that did not."""
    with collecting() as taking:
        await told(taking, collector)
        known = sinks.Known(sinks.counted(scraped(prometheus)), sinks.traced(taking), Counter(mlflow))
    return list(sinks.due(happened()).lacks(known))


async def test_nothing_is_lost_where_everybody_heard_everything() -> None:
    assert await lacking(happened(), happened(), [FIRST]) == []


async def test_what_a_place_did_not_hear_is_lost() -> None:
    events = happened()
    behind = await lacking(events[:-2], events, [FIRST])
    assert set(behind) == {
        f"prometheus: events {len(events) - 2} times, not {len(events)}",
        "prometheus: rounds skipped 0 times, not 1",
    }
    assert len(behind) == 3, "each event once"
    ends = next(number for number, event in enumerate(events) if isinstance(event.body, RoundFinished))
    nothing = {f"collector: {what} 0 times, not 1" for what in (FIRST, f"{FIRST} edge-01", f"{FIRST} edge-02", "round 7/2")}
    assert set(await lacking(events, events[:ends], [FIRST])) == nothing
    assert await lacking(events, events, []) == [f"mlflow: {FIRST} 0 times, not 1"]


async def test_what_is_counted_twice_is_no_less_wrong() -> None:
    events = happened()
    again = next(event for event in events if isinstance(event.body, UpdateReceived))
    lost = await lacking([*events, again.model_copy(update={"seq": len(events) + 1})], events, [FIRST])
    assert "prometheus: edge-01 received 2 times, not 1" in lost


def test_a_line_is_shipped_when_a_file_has_its_document(tmp_path: Path) -> None:
    lines = []
    for number in range(3):
        said = {"__REALTIME_TIMESTAMP": str(10**15 + number), "_SYSTEMD_UNIT": "edgefl-gate.service", "MESSAGE": f"line {number}"}
        line = parse(json.dumps(said), "edge-01")
        assert line is not None
        lines.append(ecs.dumped(ecs.document(line, "clinic")) + "\n")
    (tmp_path / "edgefl.ndjson").write_text(lines[0])
    (tmp_path / "edgefl-20260301T000000000000.ndjson").write_text(lines[1])
    assert sinks.lines("".join(lines)) - sinks.shipped(tmp_path) == sinks.lines(lines[2])
