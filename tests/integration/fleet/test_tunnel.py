"""The tunnel role's program at both ends of a wire, with whichever WireGuard this machine has."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgefl.share import share
from tests.integration.fleet.wire import HERE, THERE, Namespace, held, wired

_NEEDED = ("wg", "wireguard-go", "ip")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, _NEEDED)) or not Path("/dev/net/tun").exists(),
    reason="a tunnel needs root, WireGuard's tools and /dev/net/tun",
)
PROGRAM = share("playbooks") / "roles" / "tunnel" / "files" / "tunnel.py"
HUB, WARD, OTHER = "10.213.0.1", "10.213.0.11", "10.213.0.12"
GATEWAY, HIDDEN = "10.98.0.1", "10.98.0.2"
START = """
import runpy, sys
program = runpy.run_path(sys.argv[1])
main = program["main"]
main.__globals__.update(CONFIG=sys.argv[2] + "/tunnel.json", KEY=sys.argv[2] + "/tunnel.key", BY=sys.argv[2] + "/by")
sys.exit(main())
"""
"""The program as it is on a host, but for where its files lie."""


def until(condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, f"waited {deadline_s} s for {what}"
        time.sleep(0.1)


class End:
    """One end, in a namespace that stands for a host."""

    def __init__(self, namespace: Namespace, directory: Path, address: str) -> None:
        self.namespace, self.directory, self.address = namespace, directory, address
        directory.mkdir()
        self.key = directory / "tunnel.key"
        self.key.write_text(self.ask("wg", "genkey"))
        self.public = self.ask("wg", "pubkey", given=self.key.read_text()).strip()
        namespace.run("mount", "-t", "tmpfs", "tmpfs", "/run")  # where wireguard-go and wg meet

    def ask(self, *argv: str, given: str = "") -> str:
        done = subprocess.run([*self.namespace.inside(), *argv], input=given, capture_output=True, text=True, check=True)
        return done.stdout

    def peer(self) -> dict[str, str]:
        return {"public_key": self.public, "address": self.address}

    def tell(self, peers: dict[str, dict[str, str]], **way: Any) -> None:
        told = {"interface": "edgefl0", "port": 51820, "address": self.address, "peers": peers, **way}
        fresh = self.directory / "tunnel.json.new"
        fresh.write_text(json.dumps(told))
        fresh.replace(self.directory / "tunnel.json")

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        argv = [*self.namespace.inside(), sys.executable, "-c", START, str(PROGRAM), str(self.directory)]
        running = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        try:
            yield running
        finally:
            running.terminate()
            running.communicate(timeout=60)

    def received(self) -> dict[str, int]:
        """Bytes that came in from each peer, by its public key."""
        lines = (line.split() for line in self.ask("wg", "show", "edgefl0", "transfer").splitlines())
        return {key: int(received) for key, received, _ in lines}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[End, End]]:
    """A coordinator, and a device that knows where it is."""
    with wired() as (here, there):
        hub, ward = End(there, tmp_path / "hub", HUB), End(here, tmp_path / "ward", WARD)
        hub.tell({"ward": ward.peer()})
        ward.tell({"hub": hub.peer()}, endpoint=THERE, mark=60913)
        with hub.up(), ward.up():
            until(lambda: (ward.directory / "by").exists() and (hub.directory / "by").exists(), "both ends")
            yield hub, ward


@contextmanager
def behind_nat(router: Namespace) -> Iterator[Namespace]:
    """A host of which nobody beyond the router knows more than the router's own address."""
    with held() as host:
        router.run("ip", "link", "add", "ward", "type", "veth", "peer", "name", "wire", "netns", str(host.pid))
        for namespace, address, device in ((router, GATEWAY, "ward"), (host, HIDDEN, "wire")):
            namespace.run("ip", "addr", "add", f"{address}/24", "dev", device)
            namespace.run("ip", "link", "set", device, "up")
        host.run("ip", "route", "add", "default", "via", GATEWAY)
        router.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        rules = 'chain out {\ntype nat hook postrouting priority srcnat;\noifname "wire" masquerade\n}'
        router.run("nft", "-f", "-", given=f"table ip nat {{\n{rules}\n}}\n")
        yield host


def reaches(end: End, address: str) -> bool:
    """Whether a connection is answered; that nobody listens there is an answer."""
    connect = "import socket, sys; s = socket.socket(); s.settimeout(1); sys.exit(s.connect_ex((sys.argv[1], 9)))"
    argv = [*end.namespace.inside(), sys.executable, "-c", connect, address]
    return subprocess.run(argv, capture_output=True, check=False).returncode == errno.ECONNREFUSED


def namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def test_a_device_reaches_the_coordinator_through_the_tunnel_and_packets_bear_the_mark(pair: tuple[End, End]) -> None:
    hub, ward = pair
    rule = "udp dport 51820 meta mark != 60913 drop"
    ward.namespace.firewall("output", rule)
    until(lambda: reaches(ward, HUB), "an answer through the tunnel, whose packets alone the firewall lets out")
    assert hub.received()[ward.public] > 0
    assert (ward.directory / "by").read_text() in ("kernel\n", "userspace\n")


def test_a_device_behind_nat_needs_no_way_to_it(tmp_path: Path) -> None:
    with wired() as (router, there), behind_nat(router) as hidden:
        hub, ward = End(there, tmp_path / "hub", HUB), End(hidden, tmp_path / "ward", WARD)
        hub.tell({"ward": ward.peer()})
        ward.tell({"hub": hub.peer()}, endpoint=THERE, mark=60913)
        with hub.up(), ward.up():
            until(lambda: (ward.directory / "by").exists() and (hub.directory / "by").exists(), "both ends")
            until(lambda: reaches(ward, HUB), "an answer through the tunnel")
            assert f"{HERE}:" in hub.ask("wg", "show", "edgefl0", "endpoints"), "all that it knows of the device is its router"
            assert not reaches(hub, HIDDEN)


def test_who_joins_disturbs_nobody_and_who_is_taken_out_is_cut_off(pair: tuple[End, End]) -> None:
    hub, ward = pair
    until(lambda: reaches(ward, HUB), "an answer through the tunnel")
    handshake = hub.ask("wg", "show", "edgefl0", "latest-handshakes")
    other = hub.ask("wg", "pubkey", given=hub.ask("wg", "genkey")).strip()
    hub.tell({"ward": ward.peer(), "other": {"public_key": other, "address": OTHER}})
    until(lambda: other in hub.received(), "the coordinator to know who joined")
    assert handshake.strip() in hub.ask("wg", "show", "edgefl0", "latest-handshakes"), "the session of who was there lives on"
    until(lambda: reaches(ward, HUB), "who was there to be reached still")
    until(lambda: OTHER in hub.ask("ip", "route", "show", "dev", "edgefl0"), "the way to who joined")

    hub.tell({"other": {"public_key": other, "address": OTHER}})
    until(lambda: ward.public not in hub.received(), "the device to be taken out")
    assert not reaches(ward, HUB)
    until(lambda: WARD not in hub.ask("ip", "route", "show", "dev", "edgefl0"), "its way to go, too")


def test_it_leaves_no_interface_where_it_has_none_of_the_kernels_and_ends_when_wireguard_go_does(pair: tuple[End, End]) -> None:
    _, ward = pair
    if (ward.directory / "by").read_text() == "kernel\n":
        pytest.skip("the kernel of this machine has WireGuard")
    inside = [int(pid) for pid in ward.ask("pgrep", "-f", "wireguard-go edgefl0").split()]
    own = [pid for pid in inside if namespace(pid) == namespace(ward.namespace.pid)]
    assert len(own) == 1
    os.kill(own[0], signal.SIGKILL)
    until(lambda: "edgefl0" not in ward.ask("ip", "-o", "link"), "the interface to go with its process")


@pytest.mark.parametrize("wrong", ["{", "{}", '{"interface": "edgefl0", "address": "10.213.0.11", "peers": {}, "port": "x"}'])
def test_what_it_cannot_read_it_says_and_ends(tmp_path: Path, wrong: str) -> None:
    with wired() as (here, _):
        end = End(here, tmp_path / "ward", WARD)
        (end.directory / "tunnel.json").write_text(wrong)
        argv = [*here.inside(), sys.executable, "-c", START, str(PROGRAM), str(end.directory)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 1
        assert done.stderr
        assert "Traceback" not in done.stderr
