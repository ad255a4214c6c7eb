"""Who is told of alerts: what site.yaml may say of it, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgefl.fleet.observing import variables
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.checks import missing_files, mistakes
from edgefl.site.loading import site_hash
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


@pytest.mark.parametrize(
    ("watch", "isolation", "what"),
    [
        ({"devices": True}, {}, "nothing reads devices"),
        ({"prometheus": True, "devices": True}, {"tunnel": "wireguard"}, "behind a tunnel"),
    ],
)
def test_devices_that_nobody_could_read_are_refused(watch, isolation, what):
    found = [said for _, said, _ in mistakes(site(watch, isolation=isolation))]
    assert len(found) == 1
    assert what in found[0]


ALONE = {"prometheus": True, "host": {"name": "watch"}}
WAY = [{"address": "192.0.2.25", "port": 587, "by": "host"}]


@pytest.mark.parametrize(
    ("watch", "isolation", "where", "what"),
    [
        ({"host": {}}, {}, ("observability", "host"), "nothing runs there"),
        ({"prometheus": True, "host": {"name": "edge-01"}}, {}, ("observability", "host", "name"), "edge-01"),
        ({"prometheus": True, "host": {"name": "coordinator"}}, {}, ("observability", "host", "name"), "the coordinator's name"),
        ({"prometheus": True, "host": {"name": "prometheus"}}, {}, ("observability", "host", "name"), "that is no host"),
        ({"prometheus": True, "host": {"address": "10.77.0.1"}}, {}, ("observability", "host", "address"), "the operator's own"),
        ({"prometheus": True, "host": {"address": "192.0.2.1"}}, {}, ("observability", "host", "address"), "outside the lab"),
        ({**ALONE, "slack": SLACK}, OUT, ("observability", "slack"), "the watcher's walls"),
        (ALONE, {"watcher": [{**WAY[0], "by": "task"}]}, ("isolation", "watcher", 0), "no code of the task's"),
        (ALONE, {"watcher": [{**WAY[0], "address": "10.77.0.11"}]}, ("isolation", "watcher", 0, "address"), "edge-01"),
        (
            ALONE,
            {"device": [{**WAY[0], "address": "10.77.0.9"}]},
            ("isolation", "device", 0, "address"),
            "nobody but the operator",
        ),
        ({"prometheus": True}, {"watcher": WAY}, ("isolation", "watcher", 0), "no host of the site watches alone"),
    ],
)
def test_a_host_that_watches_is_one_that_can(watch, isolation, where, what):
    found = list(mistakes(site(watch, isolation=isolation)))
    assert [location for location, _, _ in found] == [where]
    assert what in found[0][1]


def test_a_host_that_watches_is_the_sites_last_and_its_alerts_leave_by_its_own_way():
    alone = site({**ALONE, "devices": True, "slack": SLACK}, isolation={"watcher": WAY})
    assert list(mistakes(alone)) == []
    assert [(host.name, host.role) for host in alone.hosts][-1] == ("watch", "watcher")
    assert site({"prometheus": True}).watcher is None


def test_its_key_for_ssh_is_a_file_beside_site_yaml(tmp_path: Path):
    placed = site({"prometheus": True, "host": {"ssh_key": "keys/watch"}}).at(tmp_path)
    assert placed.hosts[-1].ssh_key == tmp_path / "keys" / "watch"
    assert [location for location, _, _ in missing_files(placed)] == [("observability", "host", "ssh_key")]


def test_who_watches_is_no_part_of_what_a_run_is(tmp_path: Path):
    assert site_hash(site({})) == site_hash(site(ALONE, isolation={"watcher": WAY}))


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


@pytest.mark.parametrize(
    ("watch", "what"),
    [
        (
            {"traces": {"endpoint": "http://192.0.2.80:4318/v1/traces", "headers_file": "otlp"}},
            "`headers_file` would travel in the clear",
        ),
        ({"mlflow": {"server": "http://ml.example", "secret_file": "ml"}}, "`secret_file` would travel in the clear"),
        ({"mlflow": {"server": "https://ml.example", "username": "clinic"}}, "a name and a password"),
    ],
)
def test_what_opens_a_service_does_not_travel_in_the_clear(watch, what):
    found = [said for _, said, _ in mistakes(site(watch))]
    assert len(found) == 1
    assert what in found[0]


@pytest.mark.parametrize(
    "watch",
    [
        {"traces": {"endpoint": "https://192.0.2.80:4318/v1/traces", "headers_file": "otlp"}},
        {"traces": {"endpoint": "http://127.0.0.1:4318/v1/traces", "headers_file": "otlp"}},
        {"traces": {"endpoint": "http://192.0.2.80:4318/v1/traces"}},
        {"mlflow": {"server": "http://[::1]:5000", "username": "clinic", "secret_file": "ml"}},
    ],
)
def test_services_that_this_machine_tells_need_no_way_out_of_the_coordinator(watch):
    assert list(mistakes(site(watch))) == []


@pytest.mark.parametrize(
    "watch",
    [
        {"traces": {"endpoint": "https://clinic:hunter2@192.0.2.80/v1/traces"}},
        {"traces": {"endpoint": "192.0.2.80:4318"}},
        {"traces": {"endpoint": "http://[::1/v1/traces"}},
        {"traces": {"endpoint": "http://192.0.2.80:99999/v1/traces"}},
        {"mlflow": {"server": "https://192.0.2.80", "experiment": ""}},
    ],
)
def test_an_address_is_whole_and_holds_no_secret(watch):
    with pytest.raises(ValidationError):
        site(watch)


def test_what_this_machine_exports_by_reaches_no_host(tmp_path: Path):
    placed = site({"mlflow": {"server": "https://ml.example", "secret_file": "ml"}}).at(tmp_path)
    assert list(placed.observability.kept_here()) == [("mlflow", "secret_file", tmp_path / "ml")]
    assert list(placed.observability.secrets()) == []
    assert [location for location, _, _ in missing_files(placed)] == [("observability", "mlflow", "secret_file")]


def test_channels_of_ones_own_are_a_file_here_that_no_host_is_given(tmp_path: Path):
    placed = site({"notify": {"channels_file": "secrets/channels"}}).at(tmp_path)
    assert list(mistakes(placed)) == [], "they need neither Prometheus nor a way out of the coordinator"
    assert placed.observability.notify.about == ["flag", "quarantine", "run", "budget", "drift"]
    assert [location for location, _, _ in missing_files(placed)] == [("observability", "notify", "channels_file")]
    assert list(placed.observability.secrets()) == []
    hub = Host("coordinator", "coordinator", "192.0.2.10", 22, "root")
    assert "secrets" not in str(variables(placed, hub, Inventory((hub,))))


@pytest.mark.parametrize("notify", [{}, {"channels_file": "x", "about": []}, {"channels_file": "x", "about": ["weather"]}])
def test_messages_about_nothing_are_refused(notify):
    with pytest.raises(ValidationError):
        site({"notify": notify})
