"""What Grafana is told to find: its provisioning files against what it documents of them, and against the dashboards.

https://grafana.com/docs/grafana/latest/administration/provisioning/; Grafana passes over a field that it does not know.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from edgefl import layout
from tests.monitor.watching import ROLE

PAGE = ROLE.parents[2] / "docs" / "observability.md"
FILES = ROLE / "files" / "grafana"
DOCUMENTED = {
    "datasources": {
        "name", "type", "access", "orgId", "uid", "url", "user", "database", "basicAuth", "basicAuthUser", "withCredentials",
        "isDefault", "jsonData", "secureJsonData", "version", "editable",
    },
    "providers": {
        "name", "orgId", "folder", "folderUid", "type", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates", "options",
    },
}  # fmt: skip


def said(folder: str, kind: str) -> dict[str, Any]:
    """The one thing that a provisioning file has of its kind."""
    [path] = (FILES / folder).iterdir()
    config = yaml.safe_load(path.read_text())
    assert (config["apiVersion"], set(config)) == (1, {"apiVersion", kind})
    assert f"/etc/grafana/provisioning/{folder}/{path.name}" in path.read_text()
    [one] = config[kind]
    assert set(one) <= DOCUMENTED[kind]
    assert one["name"]
    return dict(one)


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (ROLE / "files" / "dashboards").glob("*.json")]


def test_the_data_source_is_the_sites_prometheus_as_the_role_runs_it():
    source = said("datasources", "datasources")
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    assert urlsplit(source["url"]).netloc == f"127.0.0.1:{layout.PROMETHEUS_PORT}" == defaults["observability_prometheus_listen"]
    assert source["jsonData"] == {"timeInterval": defaults["observability_interval"]}


def test_dashboards_are_looked_for_where_the_documentation_has_them_put():
    provider = said("dashboards", "providers")
    assert provider["type"] == "file"
    assert set(provider["options"]) <= {"path", "foldersFromFilesStructure"}
    assert f"`{provider['options']['path']}`" in PAGE.read_text()


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda one: one["uid"])
def test_a_dashboard_takes_whichever_prometheus_is_chosen_the_provisioned_one_among_them(dashboard):
    [chosen] = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert chosen["query"] == said("datasources", "datasources")["type"]
    asked = [part["datasource"] for panel in dashboard["panels"] for part in (panel, *panel["targets"])]
    asked += [one["datasource"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert {(source["type"], source["uid"]) for source in asked} == {(chosen["query"], f"${{{chosen['name']}}}")}
    assert len(dashboard["uid"]) <= 40, "longer ones Grafana refuses"


def test_dashboards_are_told_apart():
    assert len({one["uid"] for one in dashboards()}) == len({one["title"] for one in dashboards()}) == len(dashboards()) == 5
