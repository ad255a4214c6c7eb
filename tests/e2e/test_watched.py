"""What watches a federation comes with one line of site.yaml, and goes with it."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from .conftest import Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

UNITS = ("edgefl-prometheus", "edgefl-alertmanager", "edgefl-node-exporter")
PORTS = ("9090", "9093", "9100")
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


def listening(fleet: Fleet, host: str = "coordinator") -> set[str]:
    """Where somebody on the host listens at one of the three ports."""
    lines = fleet.on(host, "ss", "-Hltn").stdout.splitlines()
    return {where for where in (line.split()[3] for line in lines) if where.rpartition(":")[2] in PORTS}


def series(fleet: Fleet, expression: str) -> list[object]:
    """What the coordinator's Prometheus says, asked there."""
    url = f"http://127.0.0.1:9090/api/v1/query?{urlencode({'query': expression})}"
    said = fleet.on("coordinator", "python3", "-c", ASK, url)
    return list(json.loads(said.stdout)["data"]["result"]) if said.returncode == 0 else []


def test_what_watches_comes_with_one_line_and_goes_with_it(fleet: Fleet) -> None:
    path = fleet.directory / "site.yaml"
    before = path.read_text()
    assert listening(fleet) == set()
    try:
        path.write_text(f"{before}observability: {{prometheus: true}}\n")
        said = fleet.edgefl("up", "--json")
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
        assert fleet.on("coordinator", "systemctl", "is-active", *UNITS).stdout.split() == ["active"] * 3
        assert listening(fleet) == {f"127.0.0.1:{port}" for port in PORTS}
        until(lambda: series(fleet, "fl_journal_last_seq > 0"), "the monitor's metrics, through the gate")
        until(lambda: series(fleet, 'node_memory_MemTotal_bytes{host="coordinator"}'), "the host's metrics")
        assert [listening(fleet, device) for device in ("edge-01", "edge-02")] == [set(), set()]
        assert fleet.on("edge-01", "test", "-e", "/usr/bin/prometheus").returncode == 1
    finally:
        path.write_text(before)
        again = fleet.edgefl("up", "--json")
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-4000:]
    assert listening(fleet) == set()
    known = fleet.on("coordinator", "systemctl", "show", "--property=LoadState", "--value", *UNITS).stdout.split()
    assert known == ["not-found"] * 3
    assert fleet.on("coordinator", "ls", "/etc/edgefl/identity/scraper.key", "/etc/edgefl/observability").stdout == ""
