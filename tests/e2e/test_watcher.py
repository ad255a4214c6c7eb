"""Prometheus moves to a host of its own and back, on adopted hosts: each `up` leaves nothing of it where it was before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest

from edgefl.fleet import evidence

from .conftest import Adopted, bare_hosts, last_object, life, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

NAMES = {"hub": "host-01", "ward-a": "host-02", "ward-b": "host-03", "watch": "host-04"}
HERE = "observability: {prometheus: true, devices: true}\n"
UNITS = ("edgefl-prometheus", "edgefl-alertmanager", "edgefl-node-exporter")
KEYS = "ls /etc/edgefl/identity/scraper.* /etc/edgefl/identity/metrics.* /etc/edgefl/gate/metrics.list 2>/dev/null || true"
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
ASK_GATE = """
import os, pwd, socket, ssl, sys
address, name, stem, path = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/edgefl/identity/ca.crt")
if stem:
    context.load_cert_chain(f"/etc/edgefl/identity/{stem}.crt", f"/etc/edgefl/identity/{stem}.key")
os.setgid(pwd.getpwnam("prometheus").pw_gid)
os.setuid(pwd.getpwnam("prometheus").pw_uid)
try:
    with context.wrap_socket(socket.create_connection((address, 7444), 5), server_hostname=name) as secure:
        secure.sendall(f"GET {path} HTTP/1.0\\r\\n\\r\\n".encode())
        said = secure.recv(4096)
    print(said.split(b"\\r\\n")[0].decode() or "closed without an answer")
except OSError as error:
    print(type(error).__name__, error)
"""
"""Ask the gate for a path, under a name, by a certificate of the host or none, as the one account that reaches it."""


@dataclass(frozen=True)
class Clinic(Adopted):
    """Four hosts of a lab, which the site knows by address: a coordinator, two devices, and one more."""

    hosts: dict[str, dict[str, Any]]

    def up(self, observability: str) -> dict[str, Any]:
        """Bring the site to what it says with this section."""
        (self.directory / "site.yaml").write_text(
            f"name: clinic\ninfrastructure: {{module: static}}\ncoordinator: {{{self.reached('hub')}}}\n"
            f"devices: [{{{self.reached('ward-a')}}}, {{{self.reached('ward-b')}}}]\n"
            f"isolation: {{operator_addresses: [{self.lab.network.ip}]}}\n{observability}"
        )
        said = self.edgefl("up")
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
        return last_object(said)

    def reached(self, name: str) -> str:
        """What site.yaml says of a host."""
        host = self.hosts[NAMES[name]]
        return f"name: {name}, address: {host['address']}, ssh_key: {self.lab.key}, host_key: {host['host_key']}"

    def on(self, name: str, *argv: str) -> str:
        """What a command says as root on a host."""
        return self.lab.execute(NAMES[name], argv).stdout

    def sh(self, name: str, script: str) -> str:
        """What a script says there."""
        return self.on(name, "sh", "-c", script)

    def series(self, name: str, expression: str) -> list[dict[str, Any]]:
        """What the Prometheus of a host says."""
        said = self.on(name, "python3", "-c", ASK, f"http://127.0.0.1:9090/api/v1/query?{urlencode({'query': expression})}")
        return list(json.loads(said)["data"]["result"]) if said else []

    def ports(self, name: str) -> set[str]:
        """Where somebody listens at one of the ports of what watches."""
        lines = (line.split()[3] for line in self.on(name, "ss", "-Hltn").splitlines())
        return {where for where in lines if where.rpartition(":")[2] in ("9090", "9093", "9100")}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with bare_hosts(tmp_path_factory.mktemp("watcher"), len(NAMES), HERE) as (directory, lab, hosts):
        yield Clinic(directory, lab, {host["name"]: host for host in hosts})


def test_prometheus_moves_to_a_host_of_its_own_and_back(clinic: Clinic) -> None:
    clinic.up(HERE)
    assert clinic.sh("hub", KEYS).split() == ["/etc/edgefl/identity/scraper.crt", "/etc/edgefl/identity/scraper.key"]
    assert clinic.up(f"observability: {{prometheus: true, devices: true, host: {{{clinic.reached('watch')}}}}}\n")["changed"]
    exactly_these_paths_are_open(clinic)
    it_watches_from_there(clinic)
    one_name_opens_what_it_reads_and_nothing_else(clinic)
    what_is_changed_in_its_walls_is_an_alert(clinic)
    until(lambda: clinic.edgefl("status").returncode == 0, "a federation that needs no attention")
    for command in (("doctor",), ("certs", "list"), ("logs", "watch"), ("plan",)):
        said = clinic.edgefl(*command)
        assert said.returncode == 0, said.stdout[-3000:] + said.stderr
    assert last_object(clinic.edgefl("up"))["changed"] is False, "with it, as without"
    it_reads_on_when_the_gate_has_renewed_itself(clinic)
    clinic.up(HERE)
    nothing_is_left_where_it_was(clinic)


def it_watches_from_there(clinic: Clinic) -> None:
    """Everything is read from the host of its own, and nothing of it runs on the coordinator but what its gate asks."""
    assert clinic.on("watch", "systemctl", "is-active", *UNITS).split() == ["active"] * 3
    assert clinic.ports("watch") == {f"127.0.0.1:{port}" for port in (9090, 9093, 9100)}
    assert clinic.ports("hub") == {"127.0.0.1:9100"}
    assert [clinic.ports(ward) for ward in ("ward-a", "ward-b")] == [{"*:9100"}] * 2
    until(lambda: clinic.series("watch", "fl_journal_last_seq > 0"), "the monitor's metrics, through the gate")
    until(lambda: clinic.series("watch", 'count(up{job="devices"} == 1) == 2'), "both devices' metrics")
    for host in ("hub", "watch"):
        until(partial(clinic.series, "watch", f'node_memory_MemTotal_bytes{{host="{host}", job="node"}}'), host)
    restarts = 'node_systemd_service_restart_total{host="hub", name="edgefl-gate.service"}'
    assert clinic.series("watch", restarts)
    assert clinic.sh("watch", KEYS).split() == ["/etc/edgefl/identity/scraper.crt", "/etc/edgefl/identity/scraper.key"]
    assert "scraper" not in clinic.sh("hub", KEYS)
    assert clinic.sh("hub", "ls -d /etc/edgefl/observability 2>/dev/null || true") == ""
    assert clinic.sh("watch", "ls -d /opt/edgefl/current /opt/edgefl/releases 2>/dev/null || true") == "", "none of the code"


def exactly_these_paths_are_open(clinic: Clinic) -> None:
    """What the signed proof says of the host that watches, and of what it reads."""
    proof = evidence.latest(clinic.directory / ".edgefl")
    assert proof is not None
    assert proof.breaches == ()
    about = [one for one in proof.results if "watch" in (one.probe.host, one.probe.target) or one.probe.port == 9100]
    assert {one.probe.id for one in about if one.observed == "open"} == {
        "hub/edgefl-gate → tcp localhost:9100",
        "operator/operator → tcp watch:22",
        "watch/prometheus → tcp hub:7444",
        "watch/prometheus → tcp ward-a:9100",
        "watch/prometheus → tcp ward-b:9100",
    }
    tried = {(one.probe.host, one.probe.user, one.probe.target) for one in about if one.observed == "closed"}
    assert {("ward-a", "edgefl-app", "watch"), ("hub", "root", "watch"), ("operator", "operator", "watch")} <= tried
    assert {("watch", "root", "hub"), ("watch", "nobody", "ward-b"), ("watch", "prometheus", "internet")} <= tried


def one_name_opens_what_it_reads_and_nothing_else(clinic: Clinic) -> None:
    """Within the one path to the gate: the certificate opens metrics alone, and the name is the metrics' alone."""
    address = clinic.hosts[NAMES["hub"]]["address"]

    def asked(name: str, stem: str, path: str) -> str:
        return clinic.on("watch", "python3", "-c", ASK_GATE, address, name, stem, path).strip()

    for path in ("/metrics", "/metrics/host"):
        assert asked("metrics.edgefl", "scraper", path).endswith("200 OK")
        assert "200" not in asked("metrics.edgefl", "", path)
    for path in ("/v1/status", "/metrics/", "/metrics/host/../../v1/status"):
        assert asked("metrics.edgefl", "scraper", path).endswith("403 Forbidden"), path


def what_is_changed_in_its_walls_is_an_alert(clinic: Clinic) -> None:
    """They are whole again at once, and its own Prometheus says that they were not; it cannot write what it reads there."""
    rules = clinic.on("watch", "nft", "--stateless", "list", "ruleset")
    until(lambda: clinic.series("watch", 'edgefl_walls_look_timestamp_seconds{host="watch"}'), "word of its walls")
    assert clinic.series("watch", "edgefl_walls_drift_timestamp_seconds > 0") == []
    clinic.on("watch", "nft", "flush", "ruleset")
    until(lambda: clinic.series("watch", 'ALERTS{alertname="EdgeflWallsChanged", host="watch"}'), "the alert")
    assert clinic.on("watch", "nft", "--stateless", "list", "ruleset") == rules
    assert clinic.sh("watch", "setpriv --reuid prometheus --regid prometheus --clear-groups touch /var/spool/edgefl/x 2>&1") != ""


def it_reads_on_when_the_gate_has_renewed_itself(clinic: Clinic) -> None:
    """Prometheus is not told, and knows nobody but the site's own authority."""
    shown = "openssl x509 -noout -serial -in /etc/edgefl/identity/gate.crt"
    before = clinic.sh("hub", shown)
    life.renew(clinic.lab, NAMES["hub"])
    assert clinic.sh("hub", shown) != before
    clinic.on("watch", "systemctl", "restart", "edgefl-prometheus")  # the connections that stood are gone
    until(lambda: clinic.series("watch", "count(up == 1) == 5 and count(up) == 5"), "everything, once more")


def nothing_is_left_where_it_was(clinic: Clinic) -> None:
    """The host of its own is as it was before, its certificate is worth nothing, and the coordinator watches again."""
    assert clinic.ports("watch") == set()
    assert clinic.on("watch", "pgrep", "-l", "prometheus") == ""
    assert clinic.sh("watch", "ls -d /etc/edgefl /var/cache/edgefl/bundle /etc/systemd/system/*edgefl* 2>/dev/null || true") == ""
    assert clinic.sh("watch", "nft list table inet edgefl 2>/dev/null || true") == ""
    packaged = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
    assert "enabled" not in clinic.on("watch", "systemctl", "is-enabled", *packaged).split(), "nor does it come at the next boot"
    assert clinic.ports("hub") == {f"127.0.0.1:{port}" for port in (9090, 9093, 9100)}
    assert clinic.sh("hub", KEYS).split() == ["/etc/edgefl/identity/scraper.crt", "/etc/edgefl/identity/scraper.key"]
    until(lambda: clinic.series("hub", "count(up == 1) == 4 and count(up) == 4"), "the coordinator's Prometheus, with everything")
    held = last_object(clinic.edgefl("certs", "list", "--all"))["certificates"]
    scrapers = [(one["status"], one["current"]) for one in held if one["role"] == "scraper"]
    assert scrapers.count(("valid", True)) == 1
    assert ("revoked", False) in scrapers
    until(lambda: clinic.edgefl("status").returncode == 0, "a federation that needs no attention")
