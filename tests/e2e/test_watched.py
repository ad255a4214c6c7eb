"""What watches a federation comes with two lines of site.yaml, and goes with them."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from edgefl.fleet import evidence
from edgefl.infra.inventory import Inventory
from edgefl.lab.capsule import Capsule
from edgefl.lab.reach import enter_network
from tests.monitor import watching
from tests.monitor.test_dashboards import OF_A_HOST, expressions

from .conftest import DEVICES, Fleet, last_object, life, until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

UNITS = ("edgefl-prometheus", "edgefl-alertmanager", "edgefl-node-exporter")
PORTS = ("9090", "9093", "9100")
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
ASK_AS = """
import os, pwd, socket, ssl, sys
user, address, stem = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/edgefl/identity/ca.crt")
if stem:
    context.load_cert_chain(f"/etc/edgefl/identity/{stem}.crt", f"/etc/edgefl/identity/{stem}.key")
os.setgid(pwd.getpwnam(user).pw_gid)
os.setuid(pwd.getpwnam(user).pw_uid)
try:
    with context.wrap_socket(socket.create_connection((address, 9100), 5), server_hostname=address) as secure:
        secure.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
        said = secure.recv(4096)
    print(said.split(b"\\r\\n")[0].decode() or "closed without an answer")
except OSError as error:
    print(type(error).__name__, error)
"""
"""Ask a device's exporter by an account of the host and one of its certificates, or none."""


def listening(fleet: Fleet, host: str = "coordinator") -> set[str]:
    """Where somebody on the host listens at one of the three ports."""
    return {where.split()[1] for where in fleet.listeners(host) if where.rpartition(":")[2] in PORTS}


def series(fleet: Fleet, expression: str) -> list[dict[str, dict[str, str]]]:
    """What the coordinator's Prometheus says, asked there."""
    url = f"http://127.0.0.1:9090/api/v1/query?{urlencode({'query': expression})}"
    said = fleet.on("coordinator", "python3", "-c", ASK, url)
    return list(json.loads(said.stdout)["data"]["result"]) if said.returncode == 0 else []


def asked(fleet: Fleet, device: str, user: str, stem: str = "") -> str:
    """What a device's exporter answers an account of the coordinator that shows one of its certificates."""
    address = Inventory.load(fleet.directory / ".edgefl" / "inventory.json").host(device).address
    return fleet.on("coordinator", "python3", "-c", ASK_AS, user, address, stem).stdout.strip()


def read(fleet: Fleet, count: int = len(DEVICES)) -> bool:
    """Whether Prometheus reads so many devices at this moment."""
    return bool(series(fleet, f'count(up{{job="devices"}} == 1) == {count}'))


@dataclass(frozen=True)
class Channel:
    """A receiver as Slack's in the hosts' network. secret: what of its address nobody may know; got: what it was told so far."""

    at: str
    secret: str
    got: list[watching.Received]

    def told(self, status: str, alert: str) -> dict[str, str] | None:
        """What it was told of an alert: the first message, where there is one."""
        for one in self.got:
            for message in one.said["attachments"] if one.path == f"/services/{self.secret}" else ():
                if message["title"] == f"{status}: {alert}, fleet":
                    return {"channel": one.said["channel"], "text": message["text"].strip()}
        return None


@contextmanager
def channel(fleet: Fleet) -> Iterator[Channel]:
    """The receiver, on the address that the lab gives its operator: hosts reach it where their walls let them."""
    listening: list[socket.socket] = []

    def listen() -> None:
        holder = Capsule(fleet.lab.root).process
        assert holder is not None
        enter_network(Path(f"/proc/{holder.pid}/ns/net"))
        listening.append(socket.create_server((str(fleet.lab.network.ip), 0)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    with watching.receiver(listening[0]) as (at, got):
        yield Channel(at, secrets.token_hex(16), got)


@contextmanager
def watched(fleet: Fleet, slack: Channel) -> Iterator[None]:
    """The fleet with everything that watches, and without any of it when the block has ended."""
    path = fleet.directory / "site.yaml"
    before = path.read_text()
    address, _, port = slack.at.partition(":")
    (fleet.directory / "slack").write_text(f"http://{slack.at}/services/{slack.secret}\n")
    told = 'slack: {channel: "#federation", webhook_file: slack}'
    way = f"isolation: {{coordinator: [{{address: {address}, port: {port}, by: host}}]}}"
    try:
        path.write_text(f"{before}observability: {{prometheus: true, devices: true, {told}}}\n{way}\n")
        said = fleet.edgefl("up", "--json")
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
        yield
    finally:
        path.write_text(before)
        again = fleet.edgefl("up", "--json")
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-4000:]


def test_what_watches_comes_with_two_lines_and_goes_with_them(fleet: Fleet) -> None:
    hosts = ("coordinator", *DEVICES)
    assert [listening(fleet, host) for host in hosts] == [set()] * len(hosts)
    before = [fleet.listeners(host) for host in hosts]
    with channel(fleet) as slack, watched(fleet, slack):
        assert fleet.on("coordinator", "systemctl", "is-active", *UNITS).stdout.split() == ["active"] * 3
        assert listening(fleet) == {f"127.0.0.1:{port}" for port in PORTS}
        assert [listening(fleet, device) for device in DEVICES] == [{"*:9100"}] * len(DEVICES)
        assert sorted(fleet.watchers("coordinator")) == ["prometheus", "prometheus-aler", "prometheus-node"]
        assert fleet.on("edge-01", "test", "-e", "/usr/bin/prometheus").returncode == 1
        for host in ("coordinator", "edge-01"):
            said = fleet.on(host, "systemd-analyze", "security", "--no-pager", "--threshold=30", "edgefl-node-exporter.service")
            assert said.returncode == 0, said.stdout[-2000:]
        until(lambda: series(fleet, "fl_journal_last_seq > 0"), "the monitor's metrics, through the gate")
        until(lambda: series(fleet, 'node_memory_MemTotal_bytes{host="coordinator"}'), "the host's metrics")
        until(lambda: read(fleet), "every device's metrics")
        for device in DEVICES:
            assert series(fleet, f'node_memory_MemTotal_bytes{{host="{device}", job="devices"}}')
            assert series(fleet, f'node_systemd_service_restart_total{{host="{device}", name="edgefl-supernode.service"}}')
        the_dashboards_show_what_only_hosts_have(fleet)
        a_fault_is_told(fleet, slack)
        one_more_path_to_each_device_and_no_other(fleet)
        one_certificate_opens_it_and_no_other(fleet)
        again = fleet.edgefl("up", "--json")
        assert last_object(again)["changed"] is False, "with everything on, as without"
        until(lambda: slack.told("RESOLVED", "EdgeflSuperlinkDown"), "the word of the fault's end")
        nobody_else_knows_the_channels_address(fleet, slack)
        what_is_renewed_serves(fleet)
    assert [fleet.listeners(host) for host in hosts] == before
    for host in hosts:
        known = fleet.on(host, "systemctl", "show", "--property=LoadState", "--value", *UNITS).stdout.split()
        assert known == ["not-found"] * 3
        assert (
            fleet.on(
                host, "sh", "-c", "ls /etc/edgefl/identity/scraper.* /etc/edgefl/identity/exporter.* /etc/edgefl/observability"
            ).stdout
            == ""
        )
        assert "9100" not in fleet.on(host, "nft", "list", "table", "inet", "edgefl").stdout
        assert fleet.watchers(host) == []
    assert f"dport {slack.at.partition(':')[2]} " not in ways_out(fleet)


def the_dashboards_show_what_only_hosts_have(fleet: Fleet) -> None:
    """Every expression that no Prometheus beside hosts can answer."""
    asked = [expression for expression in expressions("fleet").values() if any(name in expression for name in OF_A_HOST)]
    assert asked
    for expression in asked:
        assert {one["metric"]["host"] for one in series(fleet, expression)} == {"coordinator", *DEVICES}, expression


def a_fault_is_told(fleet: Fleet, slack: Channel) -> None:
    """The SuperLink is away until the channel has heard of it; it is there again then, and nobody had to tell anybody."""
    assert slack.told("FIRING", "EdgeflSuperlinkDown") is None
    address, _, port = slack.at.partition(":")
    opened = [line for line in ways_out(fleet).splitlines() if f"dport {port} " in line]
    assert opened
    assert all(f"daddr {address} " in line for line in opened)
    assert fleet.on("coordinator", "systemctl", "stop", "edgefl-superlink").returncode == 0
    try:
        until(lambda: slack.told("FIRING", "EdgeflSuperlinkDown"), "the word of a SuperLink that is away", 240)
    finally:
        assert fleet.on("coordinator", "systemctl", "start", "edgefl-superlink").returncode == 0
    assert slack.told("FIRING", "EdgeflSuperlinkDown") == {
        "channel": "#federation",
        "text": "the monitor does not reach the SuperLink (next: edgefl logs)",
    }
    assert slack.told("RESOLVED", "EdgeflSuperlinkDown") is None


def ways_out(fleet: Fleet) -> str:
    """What the coordinator's walls let out."""
    return fleet.on("coordinator", "nft", "list", "chain", "inet", "edgefl", "output").stdout


def nobody_else_knows_the_channels_address(fleet: Fleet, slack: Channel) -> None:
    """It lies in root's file and in what systemd hands to Alertmanager: nowhere else there, on no device, and in no state."""
    file = "/etc/edgefl/observability/slack"
    assert fleet.on("coordinator", "stat", "--format=%a %U", file).stdout.split() == ["600", "root"]
    trees = ("/etc", "/root", "/run", "/tmp", "/var")
    search = ("grep", "-rlsF", "--file=-", "--exclude-dir=bundle", *trees)
    found = {host: fleet.lab.execute(host, search, slack.secret).stdout.split() for host in ("coordinator", "edge-01")}
    assert found == {"coordinator": [file, "/run/credentials/edgefl-alertmanager.service/slack"], "edge-01": []}
    for look in ("journalctl --no-pager --output=cat", "cat /proc/*/cmdline /proc/*/environ"):
        said = fleet.on("coordinator", "sh", "-c", look).stdout
        assert said
        assert slack.secret not in said, look
    state = fleet.directory / ".edgefl"
    files = [path for path in state.rglob("*") if path.is_file() and state / "lab" / "hosts" not in path.parents]
    assert files
    assert [path for path in files if slack.secret.encode() in path.read_bytes()] == []


def one_more_path_to_each_device_and_no_other(fleet: Fleet) -> None:
    """What the signed proof says of the port that devices opened."""
    proof = evidence.latest(fleet.directory / ".edgefl")
    assert proof is not None
    assert proof.breaches == ()
    tried = [one for one in proof.results if one.probe.port == 9100]
    opened = {one.probe.id for one in tried if one.observed == "open"}
    assert opened == {f"coordinator/prometheus → tcp {device}:9100" for device in DEVICES}
    by = {(one.probe.host, one.probe.user) for one in tried if one.observed == "closed" and one.probe.target in DEVICES}
    assert {("coordinator", "root"), ("coordinator", "edgefl-server"), ("edge-02", "edgefl-app"), ("operator", "operator")} <= by


def one_certificate_opens_it_and_no_other(fleet: Fleet) -> None:
    """Within the one path: who is not Prometheus is turned back by its certificate, who is not its account by the walls."""
    assert asked(fleet, "edge-01", "prometheus", "scraper") == "HTTP/1.0 200 OK"
    for stem in ("", "superlink", "gate"):
        said = asked(fleet, "edge-01", "prometheus", stem)
        assert "certificate" in said or "closed" in said or "reset" in said.lower(), said
    for user in ("root", "edgefl-server", "nobody"):
        assert "200" not in asked(fleet, "edge-01", user, "scraper"), user


def what_is_renewed_serves(fleet: Fleet) -> None:
    """Every key of both sides is replaced, the gate's once more by the coordinator itself; nobody is told, and all is read on."""
    shown = "openssl x509 -noout -serial -in /etc/edgefl/identity/exporter.crt"
    before = fleet.on("edge-01", "sh", "-c", shown).stdout
    rotated = fleet.edgefl("certs", "rotate", "--json")
    assert rotated.returncode == 0, rotated.stdout[-3000:]
    life.renew(fleet.lab, "coordinator")
    assert fleet.on("edge-01", "sh", "-c", shown).stdout != before
    assert asked(fleet, "edge-01", "prometheus", "scraper") == "HTTP/1.0 200 OK"
    fleet.on("coordinator", "systemctl", "restart", "edgefl-prometheus")  # the connections that stood are gone
    until(lambda: read(fleet), "every device's metrics, by the renewed certificates")
    until(
        lambda: series(fleet, 'up{job="edgefl"} == 1'), "the monitor's metrics, by the certificate that the gate renewed itself"
    )


def test_logs_take_no_more_of_a_hosts_disk_than_the_site_says(fleet: Fleet) -> None:
    """By journald's own word; the lab's image has a bound of its own, which is taken away meanwhile."""
    own, kept = "/etc/systemd/journald.conf.d/lab.conf", "/root/lab.conf"
    for host in ("coordinator", "edge-01"):
        assert "SystemMaxUse=256M" in fleet.on(host, "cat", "/etc/systemd/journald.conf.d/edgefl.conf").stdout
    fleet.on("edge-01", "mv", own, kept)
    try:
        assert fleet.on("edge-01", "systemctl", "restart", "systemd-journald").returncode == 0
        last = ("journalctl", "--unit=systemd-journald", "--output=cat", "--no-pager", "--lines=20")

        def bound() -> str:
            return [line for line in fleet.on("edge-01", *last).stdout.splitlines() if " max " in line][-1]

        until(lambda: "max 256.0M" in bound(), "journald's own word of its bound", 20)
    finally:
        fleet.on("edge-01", "mv", kept, own)
        fleet.on("edge-01", "systemctl", "restart", "systemd-journald")
