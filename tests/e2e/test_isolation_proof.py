"""The proof on lab hosts: it holds where the walls stand, and names the path when one is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from edgefl.fleet import doctor, evidence, preflight, proof, ssh
from edgefl.fleet.proof import NotIsolated
from edgefl.infra.inventory import Host, Inventory
from edgefl.lab.hosts import HostSpec, Lab
from edgefl.pki.operator import ensure_operator
from edgefl.progress import Finished, Progress
from edgefl.site.checks import mistakes
from edgefl.site.model import Coordinator, Device, Infrastructure, Isolation, Site
from tests.walls import ruleset

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NETWORK = IPv4Interface("10.78.0.1/24")
USERS = {
    "coordinator": ["edgefl-link", "edgefl-server", "edgefl-monitor", "edgefl-gate"],
    "device": ["edgefl-node", "edgefl-app"],
}
PORTS = {"coordinator": [("0.0.0.0", 7443), ("0.0.0.0", 7444), ("127.0.0.1", 8000)], "device": [("127.0.0.1", 9094)]}
SERVE = """
import json, signal, socket, sys
held = [socket.create_server((address, port)) for address, port in json.loads(sys.argv[1])]
signal.pause()
"""
ARCHIVE, NOBODY = 11112, "10.78.0.200"
"""A port of the operator's machine, which stands for an archive beside the devices; an address that no host has."""
OUTPUT = "type filter hook output priority filter; policy drop;"


class Fleet:
    """Lab hosts with the role's users and walls; where services would listen, something does."""

    def __init__(self, lab: Lab, site: Site) -> None:
        self.lab, self.site = lab, site
        self.inventory = Inventory(tuple(self._host(host.name) for host in site.hosts))
        for host in self.inventory.hosts:
            for user in USERS[host.role]:
                self.run(host.name, "useradd", "--system", "--no-create-home", user)
            serve = ["python3", "-c", SERVE, json.dumps(PORTS[host.role])]
            self.run(host.name, "systemd-run", "--quiet", "--unit=edgefl-stand-in", *serve)
            self.wall(host)

    def _host(self, name: str) -> Host:
        role = "coordinator" if name == "coordinator" else "device"
        number = [host.name for host in self.site.hosts].index(name) + 10
        state = self.lab.create(HostSpec(name, f"10.78.0.{number}", role, memory_mb=512, preloaded=False))
        return Host(name, role, state.spec.address, 22, "root", str(self.lab.key), state.host_key, str(self.lab.root))

    def wall(self, host: Host, *, also: str = "", allowed: bool = True) -> None:
        """Load the role's rules, with a hole in them where one is asked for, or without what the site allows."""
        rules = ruleset(host, self.inventory, [str(NETWORK.ip)], self.site.isolation.of(host.role) if allowed else ())
        assert OUTPUT in rules
        self.run(host.name, "nft", "-f", "-", given=rules.replace(OUTPUT, f"{OUTPUT}\n{also}\n"))

    def run(self, name: str, *argv: str, given: str | None = None) -> None:
        done = self.lab.execute(name, argv, given)
        assert done.returncode == 0, done.stderr

    async def verify(self) -> list[Progress]:
        return [event async for event in proof.verify(self.site, self.inventory)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root: Path = tmp_path_factory.mktemp("isolation")
    devices = [Device(name="edge-01"), Device(name="edge-02")]
    isolation = Isolation.model_validate(
        {
            "device": [{"address": str(NETWORK.ip), "port": ARCHIVE}, {"address": NOBODY, "port": "5432-5433", "by": "host"}],
            "coordinator": [{"address": str(NETWORK.ip), "port": ARCHIVE, "protocol": "udp"}],
        }
    )
    infrastructure = Infrastructure(network=NETWORK)
    site = Site(name="lab", coordinator=Coordinator(), devices=devices, infrastructure=infrastructure, isolation=isolation)
    assert list(mistakes(site)) == []
    site._root = root
    ensure_operator(site)
    lab = Lab(site.state / "lab", NETWORK)
    try:
        yield Fleet(lab, site)
    finally:
        lab.down()


async def test_a_fleet_behind_its_walls_is_proven_and_the_proof_is_signed(fleet: Fleet) -> None:
    *_, last = await fleet.verify()
    assert isinstance(last, Finished)
    kept = evidence.load(Path(last.detail["proof"]), fleet.site.state / "operator/ca.crt")
    assert kept.breaches == ()
    assert kept.sha256 == last.detail["sha256"]
    assert {result.probe.host for result in kept.results} == {"coordinator", "edge-01", "edge-02", "operator"}


async def test_what_the_site_allows_is_proven_and_its_loss_is_named(fleet: Fleet) -> None:
    *_, last = await fleet.verify()
    assert isinstance(last, Finished)
    seen = {
        r.probe.id: r.observed for r in evidence.load(Path(last.detail["proof"]), fleet.site.state / "operator/ca.crt").results
    }
    archive = f"edge-01/edgefl-app → tcp {NETWORK.ip}:{ARCHIVE}"
    assert seen[archive] == seen[f"edge-01/root → tcp {NOBODY}:5433"] == "unanswered"
    assert seen[f"coordinator/edgefl-server → udp {NETWORK.ip}:{ARCHIVE}"] == "unanswered"
    assert seen[archive.replace("edgefl-app", "edgefl-node")] == seen[f"{archive[:-1]}3"] == "closed"

    host = fleet.inventory.host("edge-01")
    fleet.wall(host, allowed=False)
    try:
        with pytest.raises(NotIsolated) as breached:
            await fleet.verify()
    finally:
        fleet.wall(host)
    assert archive in {breach.probe.id for breach in breached.value.breaches}
    assert {(breach.probe.host, breach.observed) for breach in breached.value.breaches} == {("edge-01", "closed")}


async def test_a_way_between_devices_is_named_though_the_other_side_is_walled(fleet: Fleet) -> None:
    host = fleet.inventory.host("edge-01")
    fleet.wall(host, also='ip daddr 10.78.0.12 tcp dport 22 meta skuid "edgefl-app" accept')
    try:
        with pytest.raises(NotIsolated) as breached:
            await fleet.verify()
    finally:
        fleet.wall(host)
    (breach,) = breached.value.breaches
    assert (breach.probe.host, breach.probe.user, breach.probe.destination) == ("edge-01", "edgefl-app", "edge-02:22")
    assert breach.observed == "leaking"


async def test_a_host_without_any_wall_fails_from_both_sides(fleet: Fleet) -> None:
    host = fleet.inventory.host("edge-02")
    fleet.run(host.name, "nft", "flush", "ruleset")
    try:
        with pytest.raises(NotIsolated) as breached:
            await fleet.verify()
    finally:
        fleet.wall(host)
    found = {(b.probe.host, b.probe.user, b.probe.destination): b.observed for b in breached.value.breaches}
    assert found["operator", "operator", "edge-02:47443"] == "open"
    assert found["edge-02", "nobody", "coordinator:7443"] == "open"
    assert found["edge-02", "10.78.0.1", "edge-02:47443"] == "open"


async def test_a_service_that_does_not_listen_is_a_closed_required_path(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "PATIENCE_S", 0.5)
    fleet.run("coordinator", "systemctl", "stop", "edgefl-stand-in")
    with pytest.raises(NotIsolated) as breached:
        await fleet.verify()
    assert all(breach.probe.expected == "open" for breach in breached.value.breaches)
    event = evidence.latest(fleet.site.state)
    assert event
    (told,) = event.events([fleet.inventory.host("edge-01")])
    assert told.closed_required == ["edge-01/edgefl-node → tcp coordinator:7443"]


async def test_a_host_that_cannot_be_reached_leaves_no_proof(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_TIMEOUT_S", 5.0)
    before = evidence.latest(fleet.site.state)
    gone = replace(fleet.inventory, hosts=tuple(replace(h, port=9) if h.name == "edge-01" else h for h in fleet.inventory.hosts))
    with pytest.raises(ssh.DeviceUnreachable, match="edge-01"):
        _ = [event async for event in proof.verify(fleet.site, gone)]
    assert evidence.latest(fleet.site.state) == before


async def test_lab_hosts_are_fit_and_the_doctor_finds_what_they_lack(fleet: Fleet) -> None:
    fit: list[str] = []
    _ = [event async for event in preflight.check(fleet.site, fleet.inventory, fit)]
    assert fit == ["coordinator", "edge-01", "edge-02"]
    findings = [
        finding async for finding in doctor.examine(fleet.inventory.host("edge-01"), fleet.site, fleet.inventory.coordinator)
    ]
    verdicts = {finding.check: finding.verdict for finding in findings}
    healthy = ("tcp", "host key", "login", "root and python", "fitness", "firewall")
    assert {check: verdicts[check] for check in healthy} == dict.fromkeys(healthy, "good")
    assert verdicts["certificate"] == verdicts["edgefl-supernode"] == "bad"
