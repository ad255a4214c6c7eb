"""What hosts are told of the tunnel, what their walls and the proof make of it, and that a site without one hears nothing."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgefl import layout
from edgefl.fleet import rendering
from edgefl.fleet.probes import LISTENER_PORT, OPERATOR, matrix
from edgefl.share import share
from edgefl.site import Site
from edgefl.site.addresses import tunnelled
from tests.fleet.test_rendering import Package, a_site, hosts
from tests.walls import rendered, role_program, ruleset

FAR = "isolation: {tunnel: {endpoint: 203.0.113.7, port: 4500}}\n"


def told(site: Site) -> dict[str, Any]:
    return dict(rendering.variables(site, hosts(), Package(), Path("/known"))["all"])


def variables(site: Site, host: str) -> dict[str, Any]:
    """What Ansible knows of a host."""
    whole = told(site)
    own = {name: values for group in whole["children"].values() for name, values in group.get("hosts", {}).items() if values}
    return {**whole["vars"], **own[host]}


def walls(site: Site, host: str) -> str:
    return ruleset(hosts().host(host), hosts(), ["10.77.0.1"], tunnel=variables(site, host))


@pytest.fixture
def program() -> ModuleType:
    return role_program("tunnel", "tunnel")


def test_a_site_without_a_tunnel_hears_nothing_of_it(tmp_path: Path) -> None:
    site = a_site(tmp_path)
    assert told(site)["children"]["edgefl_tunnelled"] == {"hosts": {}}, "so that its play has no host, and costs nothing"
    for host in ("coordinator", "edge-01"):
        assert not [name for name in variables(site, host) if "tunnel" in name or "further_addresses" in name]
        assert not any(word in walls(site, host) for word in ("edgefl0", "51820", "mark"))
    assert not [probe for probe in matrix(site, hosts()) if "tunnel" in probe.target]


def test_devices_find_the_gate_in_the_tunnel_and_nowhere_else(tmp_path: Path) -> None:
    site = a_site(tmp_path, "isolation: {tunnel: wireguard}\n")
    inside = {name: str(address) for name, address in tunnelled(site).items()}
    assert list(told(site)["children"]["edgefl_tunnelled"]["hosts"]) == ["coordinator", "edge-01", "edge-02"]
    device, coordinator = variables(site, "edge-01"), variables(site, "coordinator")
    for where in ("isolation_coordinator_address", "identity_coordinator_address", "device_coordinator_address"):
        assert device[where] == inside["coordinator"]
    assert device["device_document"]["coordinator"]["address"] == inside["coordinator"]
    assert "10.77.0.11" not in coordinator["coordinator_allowed_addresses"]
    assert coordinator["isolation_device_addresses"] == [inside["edge-01"], inside["edge-02"]]
    assert coordinator["coordinator_document"]["coordinator"]["address"] == "10.77.0.10"
    assert coordinator["identity_further_addresses"] == [inside["coordinator"]], "the gate is called by it"
    assert device["identity_further_addresses"] == []
    assert device["tunnel_peers"] == {"coordinator": inside["coordinator"]}
    assert coordinator["tunnel_peers"] == {"edge-01": inside["edge-01"], "edge-02": inside["edge-02"]}
    assert device["tunnel_way"]["endpoint"] == "10.77.0.10"
    assert "endpoint" not in coordinator["tunnel_way"], "it calls nobody"


def test_the_walls_open_the_gate_inside_and_one_port_outside(tmp_path: Path) -> None:
    site = a_site(tmp_path, FAR)
    inside = tunnelled(site)
    device = walls(site, "edge-01")
    gate = f'ip daddr {{ {inside["coordinator"]} }} oifname "edgefl0" tcp dport 7443'
    ways = [line.strip() for line in device.splitlines() if "7443" in line or "4500" in line]
    mark = f"ip daddr {{ 203.0.113.7 }} udp dport 4500 meta mark {layout.TUNNEL_MARK} accept"
    assert ways == [f'{gate} meta skuid "edgefl-node" accept', f"{gate} ct state established accept", mark]
    coordinator = walls(site, "coordinator")
    ways = [line.strip() for line in coordinator.splitlines() if "7443" in line or "4500" in line]
    sources = ", ".join(sorted(str(inside[name]) for name in ("edge-01", "edge-02")))
    assert ways == [f'ip saddr {{ {sources} }} iifname "edgefl0" tcp dport 7443 accept', "udp dport 4500 accept"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="network namespaces and nft need root")
def test_the_kernel_takes_the_walls_of_a_site_with_a_tunnel(tmp_path: Path) -> None:
    site = a_site(tmp_path, FAR)
    for host in ("coordinator", "edge-01"):
        text = walls(site, host)
        for user in (value for name, value in vars(layout).items() if name.startswith("USER_")):
            text = text.replace(f'"{user}"', "65534")  # this machine has none of edgefl's accounts
        done = subprocess.run(["unshare", "--net", "nft", "--file", "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_proof_tries_both_sides_of_the_tunnel(tmp_path: Path) -> None:
    site = a_site(tmp_path, FAR)
    inside = {name: str(address) for name, address in tunnelled(site).items()}
    probes = matrix(site, hosts())
    assert len({probe.id for probe in probes}) == len(probes)
    seen = {(p.host, p.user, p.protocol, p.address, p.port): p.expected for p in probes}
    opened = [(p.user, p.address, p.port) for p in probes if p.host == "edge-01" and p.expected == "open"]
    assert sorted(opened) == [(layout.USER_APP, "127.0.0.1", 9094), (layout.USER_NODE, inside["coordinator"], 7443)]
    for user in (layout.USER_NODE, layout.USER_APP, "nobody"):
        closed = [("tcp", "10.77.0.10", 7443), ("udp", "203.0.113.7", 4500), ("icmp", inside["coordinator"], 0)]
        closed += [("tcp", inside["coordinator"], port) for port in (7444, 8000, 22, LISTENER_PORT)]
        closed += [("tcp", inside["edge-02"], port) for port in (22, LISTENER_PORT)]
        assert {seen["edge-01", user, *way] for way in closed} == {"closed"}
    for user in (layout.USER_APP, "nobody"):
        assert seen["edge-01", user, "tcp", inside["coordinator"], 7443] == "closed"
    assert seen["edge-01", "root", "tcp", inside["edge-02"], 22] == "closed"
    assert seen["coordinator", "root", "tcp", inside["edge-01"], LISTENER_PORT] == "closed", "it initiates nothing"
    assert seen[OPERATOR, OPERATOR, "tcp", "10.77.0.10", 7443] == "closed"


def ends(known: dict[str, str], read: dict[str, str]) -> dict[str, Any]:
    """The coordinator's tunnel.json. known: keys that it has. read: keys of the devices that this run read."""
    settings = {"peers": {name: {"public_key": key, "address": "10.213.0.9"} for name, key in known.items()}}
    facts = {name: {"edgefl": {"identity": {"tunnel_public_key": key}}} for name, key in read.items()}
    text = rendered(
        "tunnel",
        "tunnel.json.j2",
        tunnel_way={"port": 51820, "interface": "edgefl0"},
        tunnel_address="10.213.0.1",
        tunnel_peers={"edge-01": "10.213.0.11", "edge-02": "10.213.0.12"},
        edgefl={"tunnel": {"settings": json.dumps(settings) if known else ""}},
        hostvars={"edge-01": {}, "edge-02": {}, **facts},
    )
    return dict(json.loads(text)["peers"])


def test_the_coordinator_knows_the_devices_that_were_read_or_that_it_knew() -> None:
    assert ends({}, {"edge-01": "AAA="}) == {"edge-01": {"public_key": "AAA=", "address": "10.213.0.11"}}
    both = ends({"edge-01": "AAA=", "edge-09": "ZZZ="}, {"edge-02": "BBB="})
    assert {name: end["public_key"] for name, end in both.items()} == {"edge-01": "AAA=", "edge-02": "BBB="}
    assert ends({"edge-01": "AAA="}, {"edge-01": "NEW="})["edge-01"]["public_key"] == "NEW="


def test_whom_the_gate_refuses_is_no_end_of_the_tunnel_any_more(tmp_path: Path) -> None:
    gate = runpy.run_path(str(share("edgefl") / "fleet" / "remote" / "gate.py"))
    place = tmp_path / "tunnel.json"
    gate["cut"].__globals__["TUNNEL"] = place
    gate["cut"](["edge-01"])
    assert not place.exists(), "a site without a tunnel has none to cut"
    place.write_text(json.dumps({"port": 51820, "peers": {"edge-01": {}, "edge-02": {}}}, indent=4, sort_keys=True) + "\n")
    gate["cut"](["edge-01", "who-else"])
    left = place.read_text()
    assert json.loads(left) == {"port": 51820, "peers": {"edge-02": {}}}
    assert left == json.dumps(json.loads(left), indent=4, sort_keys=True) + "\n", "as `up` would lay it down"


def test_each_end_is_told_in_the_words_of_wg(program: ModuleType) -> None:
    peers = {"hub": {"public_key": "PUB=", "address": "10.213.0.1"}}
    device = program.settings({"port": 4500, "endpoint": "2001:db8::7", "mark": 60913, "peers": peers}, "KEY=\n")
    assert device.splitlines() == [
        *("[Interface]", "PrivateKey = KEY=", "FwMark = 60913", "[Peer]", "PublicKey = PUB=", "AllowedIPs = 10.213.0.1/32"),
        *("Endpoint = [2001:db8::7]:4500", "PersistentKeepalive = 25"),
    ]
    hub = program.settings({"port": 4500, "peers": {"edge-01": {"public_key": "PUB=", "address": "10.213.0.9"}}}, "KEY=\n")
    assert "ListenPort = 4500" in hub.splitlines()
    assert not any(line.startswith(("Endpoint", "PersistentKeepalive", "FwMark")) for line in hub.splitlines())
