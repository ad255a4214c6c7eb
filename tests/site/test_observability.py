"""Who is told of alerts: what site.yaml may say of it, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgefl.site.checks import missing_files, mistakes
from edgefl.site.model import Site

SLACK = {"channel": "#federation", "webhook_file": "secrets/slack"}
EMAIL = {"to": ["ops@clinic.example"], "sender": "edgefl@clinic.example", "relay": "192.0.2.25:587"}
OUT = {"coordinator": [{"address": "192.0.2.25", "port": 587, "by": "host"}]}


def site(observability: dict, **sections) -> Site:
    return Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}], "observability": observability, **sections})


def test_nothing_watches_by_default():
    watch = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]}).observability
    assert not watch.prometheus
    assert watch.receivers == {}


@pytest.mark.parametrize(
    ("watch", "isolation", "what"),
    [
        ({"slack": SLACK}, OUT, "nothing makes alerts"),
        ({"prometheus": True, "slack": SLACK}, {}, "no alert arrives"),
        ({"prometheus": True, "email": EMAIL}, {"coordinator": [{**OUT["coordinator"][0], "by": "task"}]}, "no alert arrives"),
        ({"prometheus": True, "email": {**EMAIL, "username": "edgefl"}}, OUT, "a name and a password"),
        ({"prometheus": True, "email": {**EMAIL, "password_file": "x"}}, OUT, "a name and a password"),
    ],
)
def test_an_alert_that_reaches_nobody_is_refused(watch, isolation, what):
    found = [said for _, said, _ in mistakes(site(watch, isolation=isolation))]
    assert len(found) == 1
    assert what in found[0]


def test_receivers_that_can_be_reached_are_fine():
    assert list(mistakes(site({"prometheus": True, "slack": SLACK, "email": EMAIL}, isolation=OUT))) == []


@pytest.mark.parametrize(
    "watch",
    [
        {"slack": {"channel": "#a\nroute: {}", "webhook_file": "x"}},
        {"email": {**EMAIL, "to": []}},
        {"email": {**EMAIL, "to": ["a@x, b@y"]}},
        {"email": {**EMAIL, "relay": "192.0.2.25"}},
        {"webhook": {"url": "ftp://x"}},
        {"accuracy_low": 1.5},
        {"keep_days": 0},
    ],
)
def test_what_cannot_be_meant_is_refused(watch):
    with pytest.raises(ValidationError):
        site(watch)


def test_secrets_are_files_beside_site_yaml_and_must_be_there(tmp_path: Path):
    placed = site({"prometheus": True, "slack": SLACK, "email": EMAIL}, isolation=OUT).at(tmp_path)
    assert list(placed.observability.secrets()) == [("slack", "webhook_file", tmp_path / "secrets" / "slack")]
    assert [location for location, _, _ in missing_files(placed)] == [("observability", "slack", "webhook_file")]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "slack").write_text("https://hooks.example/secret")
    assert list(missing_files(placed)) == []
    assert "hooks.example" not in placed.model_dump_json()
