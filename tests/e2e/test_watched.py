"""What watches a federation comes with two lines of site.yaml, and goes with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest

from edgefl.fleet import evidence
from edgefl.infra.inventory import Inventory

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
    lines = fleet.on(host, "ss", "-Hltn").stdout.splitlines()
    return {where for where in (line.split()[3] for line in lines) if where.rpartition(":")[2] in PORTS}


def series(fleet: Fleet, expression: str) -> list[object]:
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


@contextmanager
def watched(fleet: Fleet) -> Iterator[None]:
    """The fleet with everything that watches, and without any of it when the block has ended."""
    path = fleet.directory / "site.yaml"
    before = path.read_text()
    try:
        path.write_text(f"{before}observability: {{prometheus: true, devices: true}}\n")
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
    with watched(fleet):
        assert fleet.on("coordinator", "systemctl", "is-active", *UNITS).stdout.split() == ["active"] * 3
        assert listening(fleet) == {f"127.0.0.1:{port}" for port in PORTS}
        assert [listening(fleet, device) for device in DEVICES] == [{"*:9100"}] * len(DEVICES)
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
        one_more_path_to_each_device_and_no_other(fleet)
        one_certificate_opens_it_and_no_other(fleet)
        again = fleet.edgefl("up", "--json")
        assert last_object(again)["changed"] is False, "with everything on, as without"
        what_is_renewed_serves(fleet)
    assert [listening(fleet, host) for host in hosts] == [set()] * len(hosts)
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
        assert fleet.on(host, "pgrep", "-l", "prometheus").stdout == ""


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
