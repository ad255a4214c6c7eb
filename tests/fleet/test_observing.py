"""What hosts are told of what watches them."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from edgefl.fleet import rendering
from edgefl.infra.inventory import Host, Inventory
from edgefl.pki.profiles import profiles
from edgefl.site import load
from tests.fleet.test_rendering import KEY, Package, a_site, hosts
from tests.walls import rendered

WATCH = """
isolation: {coordinator: [{address: 192.0.2.25, port: 587, by: host}, {address: 192.0.2.9, port: 80}]}
observability:
  prometheus: true
  accuracy_low: 0.6
  email: {to: [a@x.example], sender: b@x.example, relay: "192.0.2.25:587", username: c, password_file: relay.secret}
"""


ALONE = "observability: {prometheus: true, devices: true, host: {name: watch}}\n"


def there(site):
    watch = [Host("watch", "watcher", "10.77.0.9", 22, "root", host_key=KEY, capsule="/lab")] if site.watcher else []
    return Inventory((*hosts().hosts, *watch))


def told(site, host="coordinator"):
    every = rendering.variables(site, there(site), Package(), Path("/known"))["all"]["children"]
    return {name: variables for group in every.values() for name, variables in group.get("hosts", {}).items()}[host]


def test_where_nothing_watches_nothing_is_installed_signed_or_told(tmp_path):
    about = told(a_site(tmp_path))
    assert not about["observability_wanted"]
    assert not {"runtime_watch", "identity_further_keys", "observability_receivers"} & about.keys()


FURTHER = {"isolation_exporter", "identity_further_keys", "identity_reader", "runtime_exporter", "runtime_watch"}


def test_a_device_hears_of_it_only_that_it_is_not_meant(tmp_path):
    (tmp_path / "relay.secret").write_text("hunter2")
    about = told(a_site(tmp_path, WATCH), "edge-01")
    watching = {name: value for name, value in about.items() if "observability" in name}
    assert watching == {"observability_wanted": False, "observability_read": "", "observability_logs_mb": 256}
    assert not FURTHER & about.keys()
    assert not {"isolation_exporter", "observability_devices"} & told(a_site(tmp_path, WATCH)).keys()


def ruleset(about, role):
    said = {name: value for name, value in about.items() if name.startswith("isolation_")}
    every = {"isolation_operator_addresses": ["10.77.0.1"], "isolation_coordinator_address": "10.77.0.10"}
    devices = {"isolation_device_addresses": ["10.77.0.11", "10.77.0.12"]}
    return [line.strip() for line in rendered("isolation", f"{role}.nft.j2", **(every | devices | said)).splitlines()]


def test_the_walls_have_the_one_path_and_its_end_where_devices_are_watched_and_no_word_of_it_elsewhere(tmp_path):
    plain = a_site(tmp_path)
    before = {role: ruleset(told(plain, host), role) for host, role in (("coordinator", "coordinator"), ("edge-01", "device"))}
    assert not [line for lines in before.values() for line in lines if "9100" in line or "exporter" in line]
    site = a_site(tmp_path, "observability: {prometheus: true, devices: true}\n")
    hub = [line for line in ruleset(told(site), "coordinator") if line not in before["coordinator"] and not line.startswith("#")]
    assert hub == [
        'ip daddr { 10.77.0.11, 10.77.0.12 } tcp dport 9100 meta skuid "prometheus" accept',
        "ip daddr { 10.77.0.11, 10.77.0.12 } tcp dport 9100 ct state established accept",
    ]
    rules = ruleset(told(site, "edge-01"), "device")
    accepts = [line for line in rules if "accept" in line and line not in before["device"]]
    assert accepts == ["ip saddr { 10.77.0.10 } tcp dport 9100 accept"]
    assert 'meta skuid { "edgefl-node", "edgefl-app", "edgefl-exporter" } counter reject with icmpx admin-prohibited' in rules


@pytest.mark.parametrize(("asked", "kept", "in_memory"), [("", 256, 64), ("observability: {logs_mb: 32}\n", 32, 32)])
def test_what_any_host_logs_is_bounded(tmp_path, asked, kept, in_memory):
    for host in ("coordinator", "edge-01"):
        said = {name: value for name, value in told(a_site(tmp_path, asked), host).items() if name.startswith("observability_")}
        drop_in = configparser.ConfigParser()
        drop_in.optionxform = str
        drop_in.read_string(rendered("observability", "journald.conf.j2", **said))
        assert dict(drop_in["Journal"]) == {"SystemMaxUse": f"{kept}M", "RuntimeMaxUse": f"{in_memory}M"}


def test_watched_devices_and_the_coordinator_are_told_of_one_path_between_them(tmp_path):
    site = a_site(tmp_path, "observability: {prometheus: true, devices: true}\n")
    device, hub = told(site, "edge-01"), told(site)
    assert device["isolation_exporter"] == {"port": 9100, "addresses": ["10.77.0.10"]}
    assert (device["observability_reader_address"], device["identity_reader"]) == ("10.77.0.10", "coordinator")
    assert device["identity_further_keys"] == [{"name": "exporter", "owner": "edgefl-exporter"}]
    assert device["runtime_exporter"] == ["prometheus-node-exporter"]
    assert "runtime_watch" not in device
    assert hub["isolation_exporter"] == {"port": 9100, "addresses": ["10.77.0.11", "10.77.0.12"]}
    assert hub["observability_devices"] == {"edge-01": "10.77.0.11:9100", "edge-02": "10.77.0.12:9100"}


def test_the_coordinator_is_told_whom_to_tell_and_no_secret(tmp_path):
    (tmp_path / "relay.secret").write_text("hunter2")
    about = told(a_site(tmp_path, WATCH))
    assert about["observability_wanted"]
    assert about["observability_receivers"]["email"]["relay"] == "192.0.2.25:587"
    assert about["observability_receivers"]["slack"] is None
    assert about["observability_ways_out"] == ["192.0.2.25"]
    assert about["identity_further_keys"] == [{"name": "scraper", "owner": "prometheus", "subject": "prometheus"}]
    assert "hunter2" not in json.dumps(about)


def test_a_secret_that_was_replaced_is_brought_at_the_next_up(tmp_path):
    secret = tmp_path / "relay.secret"
    secret.write_text("hunter2")
    site = a_site(tmp_path, WATCH)
    before = told(site)["observability_secrets"]
    secret.unlink()
    secret.write_text("hunter3")
    after = told(load(tmp_path))["observability_secrets"]
    assert [one["path"] for one in before] == [one["path"] for one in after] == [str(secret)]
    assert before != after


def test_on_a_host_of_its_own_prometheus_alone_reads_and_the_walls_of_three_hosts_know_it(tmp_path):
    plain, site = a_site(tmp_path), a_site(tmp_path, ALONE)
    before = ruleset(told(plain), "coordinator")
    hub = [line for line in ruleset(told(site), "coordinator") if line not in before and not line.startswith("#")]
    assert hub == [
        "ip saddr { 10.77.0.9 } tcp dport 7444 accept",
        'tcp dport 9100 meta skuid "edgefl-gate" accept',
        "tcp dport 9100 counter reject with tcp reset",
    ]
    assert "ip saddr { 10.77.0.9 } tcp dport 9100 accept" in ruleset(told(site, "edge-01"), "device")
    watch = ruleset(told(site, "watch"), "watcher")
    assert [line for line in watch if "dport" in line and "accept" in line] == [
        "ip saddr { 10.77.0.1 } tcp dport 22 accept",
        'ip daddr { 10.77.0.10 } tcp dport 7444 meta skuid "prometheus" accept',
        "ip daddr { 10.77.0.10 } tcp dport 7444 ct state established accept",
        'ip daddr { 10.77.0.11, 10.77.0.12 } tcp dport 9100 meta skuid "prometheus" accept',
        "ip daddr { 10.77.0.11, 10.77.0.12 } tcp dport 9100 ct state established accept",
    ]
    without = ruleset(told(a_site(tmp_path, "observability: {prometheus: true, host: {}}\n"), "watch"), "watcher")
    assert not [line for line in without if "9100" in line]


def test_what_the_host_that_watches_may_ask_besides_stands_in_its_walls_for_its_services(tmp_path):
    ways = "isolation: {dns: [192.0.2.53], watcher: [{address: 192.0.2.25, port: 587, by: host}]}\n"
    about = told(a_site(tmp_path, ALONE + ways), "watch")
    watch = ruleset(about | {"isolation_dns_addresses": ["192.0.2.53"], "isolation_dhcp": True}, "watcher")
    assert "ip daddr { 192.0.2.53 } meta l4proto { tcp, udp } th dport 53 accept" in watch
    assert "ip daddr { 192.0.2.25/32 } tcp dport 587 accept" in watch
    assert "udp sport 68 udp dport 67 accept" in watch
    assert about["observability_ways_out"] == ["192.0.2.25", "192.0.2.53"]
    assert told(a_site(tmp_path, ALONE + ways))["isolation_allowances"] == []


def test_the_key_that_reads_is_made_where_prometheus_runs_and_nowhere_else(tmp_path):
    site = a_site(tmp_path, ALONE)
    hub, device, watch = told(site), told(site, "edge-01"), told(site, "watch")
    assert watch["identity_further_keys"] == [{"name": "scraper", "owner": "prometheus", "subject": "prometheus"}]
    assert hub["identity_further_keys"] == [{"name": "metrics", "owner": "edgefl-gate", "joined": True}]
    assert device["identity_reader"] == "watch"
    assert [one["observability_wanted"] for one in (hub, device, watch)] == [False, False, True]
    assert [one["observability_read"] for one in (hub, device, watch)] == ["gate", "device", ""]
    assert ("runtime_watch" in hub, hub["runtime_exporter"]) == (False, ["prometheus-node-exporter"])
    assert (watch["runtime_deps_hashes"], watch["runtime_app_hash"]) == ({}, "")
    assert not {"watcher_document", "watcher_members"} & watch.keys(), "it has no part in training"


def test_prometheus_on_a_host_of_its_own_finds_the_gate_by_a_name_that_the_sites_authority_signed(tmp_path):
    about = {name: value for name, value in told(a_site(tmp_path, ALONE), "watch").items() if name.startswith("observability_")}
    jobs = {
        job["job_name"]: job
        for job in YAML(typ="safe").load(rendered("observability", "prometheus.yml.j2", **about))["scrape_configs"]
    }
    assert list(jobs) == ["edgefl", "devices", "coordinator", "node"]
    for job, path in (("edgefl", None), ("coordinator", "/metrics/host")):
        assert jobs[job].get("metrics_path") == path
        assert jobs[job]["static_configs"][0]["targets"] == ["10.77.0.10:7444"]
        assert jobs[job]["tls_config"]["ca_file"] == "/etc/edgefl/identity/ca.crt"
        assert [jobs[job]["tls_config"]["server_name"]] == profiles().roles["metrics"].names
    labels = {job: jobs[job]["static_configs"][0]["labels"] for job in ("coordinator", "node")}
    assert labels["coordinator"] == {"site": "clinic", "job": "node", "instance": "coordinator", "host": "coordinator"}
    assert labels["node"] == {"site": "clinic", "instance": "watch", "host": "watch"}


def test_the_walls_of_the_host_that_watches_tell_its_own_node_exporter_and_those_of_no_other_host(tmp_path):
    site = a_site(tmp_path, ALONE)
    about = {host: told(site, host) for host in ("coordinator", "edge-01", "watch")}
    told_so = {host: "--metrics" in rendered("isolation", "walls-edgefl.service.j2", **said) for host, said in about.items()}
    assert told_so == {"coordinator": False, "edge-01": False, "watch": True}
    reads = {
        host: "--collector.textfile.directory=/var/spool/edgefl\n"
        in rendered("observability", "edgefl-node-exporter.service.j2", **about[host])
        for host in ("coordinator", "watch")
    }
    assert reads == {"coordinator": False, "watch": True}


def test_the_gate_has_that_name_and_shows_the_hosts_metrics_where_another_host_watches_and_only_there(tmp_path):
    def gate(site):
        about = {name: value for name, value in told(site).items() if name.startswith("coordinator_")}
        about |= {"coordinator_device_addresses": ["10.77.0.11"]}
        return rendered("coordinator", "haproxy.cfg.j2", **about), rendered("coordinator", "metrics.list.j2", **about)

    plain, _ = gate(a_site(tmp_path, "observability: {prometheus: true, devices: true}\n"))
    watched, names = gate(a_site(tmp_path, ALONE))
    assert "metrics.list" not in plain
    assert "acl is_read path /metrics\n" in plain
    assert "crt /etc/edgefl/identity/gate.pem crt-list /etc/edgefl/gate/metrics.list" in watched
    assert "acl is_read path /metrics /metrics/host\n" in watched
    assert names.splitlines()[-1] == "/etc/edgefl/identity/metrics.pem metrics.edgefl"


def test_who_watches_may_speak_to_the_gate(tmp_path):
    site = a_site(tmp_path, ALONE)
    every = rendering.variables(site, there(site), Package(), Path("/known"))["all"]
    assert every["vars"]["coordinator_allowed_addresses"] == ["10.77.0.1", "10.77.0.11", "10.77.0.12", "10.77.0.9"]
    assert list(every["children"]["edgefl_watchers"]["hosts"]) == ["watch"]
    assert told(site, "watch")["isolation_coordinator_address"] == "10.77.0.10"


def test_where_the_host_that_watches_is_not_there_yet_nothing_takes_its_place(tmp_path):
    site = a_site(tmp_path, ALONE)
    with pytest.raises(rendering.HostsDiffer, match="watch"):
        rendering.variables(site, hosts(), Package(), Path("/known"))
