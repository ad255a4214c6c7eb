"""Every expression of every dashboard, asked of a real Prometheus that has followed a real run."""

from __future__ import annotations

import json
import runpy
from contextlib import suppress
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.events import replay
from edgefl.events.schema import AuditFinished, RoundFinished
from tests.monitor import watching
from tests.monitor.conftest import wait_for

DASHBOARDS = watching.ROLE / "files" / "dashboards"
RUN = Path(__file__).with_name("watched.ndjson")
"""What the journal of a lab's coordinator held after a run of four devices, one of which attacked."""
OF_A_HOST = {"node_systemd_service_restart_total"}
"""What only a host with edgefl's services has: tests/e2e/test_watched.py asks the Prometheus of a lab's coordinator for it."""


def expressions(site: str = "$site") -> dict[str, str]:
    """Every expression, as Grafana asks it for a site, by where it stands."""
    found = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                place = f"{path.stem}: {panel['title']} ({panel['type']}, {target['refId']})"
                found[place] = target["expr"].replace("$site", site).replace("$__rate_interval", "30s")
    return found


def sensor(at: Path) -> Path:
    """A /sys with one sensor of temperature, 47 °C, laid out as the kernel does (Documentation/hwmon/sysfs-interface)."""
    chip = at / "class" / "hwmon" / "hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("coretemp\n")
    (chip / "temp1_input").write_text("47000\n")
    return at


def test_there_are_five_dashboards_and_each_looks_at_one_site():
    assert len(list(DASHBOARDS.glob("*.json"))) == 5
    assert len(expressions()) > 70
    assert [place for place, expression in expressions().items() if '"$site"' not in expression] == []


def test_what_hosts_tell_of_themselves_is_drawn_by_host():
    """Of the coordinator, of a host that watches, and of devices the same series come."""
    lines = [
        (panel["title"], target["legendFormat"])
        for path in DASHBOARDS.glob("*.json")
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
        if "node_" in target["expr"] and panel["type"] == "timeseries"
    ]
    assert len(lines) > 5
    assert [title for title, legend in lines if "{{host}}" not in legend] == []


def test_the_dashboards_are_what_their_source_makes():
    pytest.importorskip("grafana_foundation_sdk")
    source = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "dashboards.py"))
    assert {name: source["text"](name) for name in source["DASHBOARDS"]} == {
        path.stem: path.read_text() for path in DASHBOARDS.glob("*.json")
    }


@pytest.mark.slow
def test_every_expression_gives_series_after_a_real_run(journal, gate, identities, tmp_path, programs):
    at, host_at = watching.free(), watching.free()
    watching.render(
        tmp_path,
        observability_identity=str(identities),
        observability_monitor=f"{gate}:{layout.API_PORT}",
        observability_host="coordinator",
        observability_site="clinic",
        observability_interval="1s",  # it is how long an answer may take, too
        observability_node_exporter_listen=host_at,
    )
    exporter = [programs.node_exporter, f"--web.listen-address={host_at}", f"--path.sysfs={sensor(tmp_path / 'sys')}"]
    with (
        watching.running(exporter, tmp_path / "node.log", host_at, "/"),
        watching.prometheus(programs.prometheus, tmp_path, at) as asked,
    ):
        wait_for(lambda: asked.series('count(up{site="clinic"} == 1) == 2'), "both targets")

        def seen() -> bool:
            return bool(asked.series(f"fl_journal_last_seq == {journal.head().seq}"))

        for event in replay.replay(RUN):
            journal.append(event.body, run=event.run, round=event.round)
            if isinstance(event.body, RoundFinished):
                wait_for(seen, f"round {event.round} in Prometheus")
        figures = {"auc@4": 0.53}
        journal.append(AuditFinished(audit="membership", passed=True, says="", figures=figures, at=event.at))
        wait_for(seen, "the audit in Prometheus")
        empty = {place: one for place, one in expressions("clinic").items() if not any(name in one for name in OF_A_HOST)}

        def drawn() -> bool:
            for place in [place for place, expression in empty.items() if asked.series(expression)]:
                del empty[place]
            return not empty

        with suppress(AssertionError):  # a scrape that came too late leaves a moment without series
            wait_for(drawn, "every expression")
    assert empty == {}
