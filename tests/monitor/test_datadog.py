"""What Datadog is told: the check's options by its published ones, monitors by Datadog's own client, both by our metrics."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml
from datadog_api_client.configuration import Configuration
from datadog_api_client.model_utils import validate_and_convert_types
from datadog_api_client.v1.model.monitor import Monitor

from tests.monitor.watching import ROLE

ROOT = Path(__file__).parents[2]
FILES = ROLE / "files" / "datadog"
MONITORS = json.loads((FILES / "monitors.json").read_text())
SOURCE = runpy.run_path(str(ROOT / "tools" / "datadog.py"))
METRICS = dict(re.findall(r"^\| `(fl_\w+)` \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
"""Every metric with its type; tests/monitor/test_metrics.py holds the page to what the monitor gives."""


def understood(monitor: dict) -> Monitor:
    """The monitor as Datadog's client reads it; what it does not know would be kept as it is, and named here."""
    read = validate_and_convert_types(monitor, (Monitor,), ["monitor"], True, True, Configuration())
    unknown = [name for name in read._data_store if name not in Monitor.openapi_types]
    unknown += [name for name in read.options._data_store if name not in type(read.options).openapi_types]
    assert not read._unparsed, read
    assert unknown == []
    return read


@pytest.mark.parametrize("monitor", MONITORS, ids=lambda monitor: monitor["name"])
def test_datadogs_client_understands_each_monitor(monitor):
    read = understood(monitor)
    assert str(read.type) == monitor["type"]
    assert f" {monitor['options']['thresholds']['critical']:g}" in read.query or monitor["type"] == "service check"


@pytest.mark.parametrize("change", [{"type": "guess"}, {"thresholds": {}}, {"options": {"threshold": {}}}])
def test_what_datadog_does_not_know_would_be_found(change):
    with pytest.raises(AssertionError):
        understood({**MONITORS[0], **change})


def test_every_alert_has_a_monitor_or_a_reason_why_not():
    with_monitor = [monitor["name"] for monitor in MONITORS]
    assert sorted([*with_monitor, *SOURCE["OTHERWISE"]]) == sorted(SOURCE["rules"]())
    assert len(with_monitor) >= 14


def test_the_monitors_are_what_their_source_makes():
    assert SOURCE["monitors"]() == MONITORS


@pytest.mark.parametrize("monitor", MONITORS, ids=lambda monitor: monitor["name"])
def test_a_monitor_asks_for_metrics_that_there_are_and_names_tags_that_it_groups_by(monitor):
    asked = re.findall(r"edgefl\.(fl_\w+)(\.count)?", monitor["query"])
    assert asked or monitor["type"] == "service check"
    for name, count in asked:
        assert METRICS[f"{name}_total" if count else name] == ("counter" if count else "gauge")
    by = re.search(r'by (?:{(.+?)}|\("(.+?)"\))', monitor["query"].replace(".by(", " by ("))
    assert set(re.findall(r"{{(\w+)\.name}}", monitor["message"])) <= set((by[1] or by[2]).split(","))
    assert "$" not in monitor["message"]


def test_the_checks_options_are_published_ones_and_take_every_metric():
    config = yaml.safe_load((FILES / "conf.yaml").read_text())
    [instance] = config["instances"]
    jsonschema.validate(instance, json.loads((Path(__file__).parent / "datadog" / "options.json").read_text())["schema"])
    [pattern] = instance["metrics"]
    assert len(METRICS) > 40
    assert all(re.match(pattern, name) for name in METRICS)
    assert instance["tls_verify"] is True
