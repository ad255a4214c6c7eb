"""The probe between two network namespaces with real firewalls: it must tell a drop from a destination where nobody listens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from edgefl.fleet.remote import program

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="network namespaces and nft need root")

HERE, THERE = "10.99.0.1", "10.99.0.2"
LISTENER = 47443


@dataclass(frozen=True)
class Namespace:
    """One network namespace, held by a process."""

    pid: int

    def run(self, *argv: str, given: str = "") -> None:
        subprocess.run(["nsenter", "-t", str(self.pid), "-n", *argv], input=given, text=True, check=True, capture_output=True)

    def firewall(self, hook: str, rule: str) -> None:
        chain = f"chain edgefl {{\ntype filter hook {hook} priority 0;\n{rule}\n}}"
        self.run("nft", "-f", "-", given=f"flush ruleset\ntable inet edgefl {{\n{chain}\n}}\n")


class Talk:
    """A probe at work in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        source = program("probe")
        start = f"import sys; exec(compile(sys.stdin.buffer.read({len(source)}), 'probe', 'exec'))"
        command = ["nsenter", "-t", str(namespace.pid), "-n", "python3", "-c", start]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._write(source)
        self.said = self.ask({"listen": LISTENER, "patience_s": 0})

    def ask(self, what: object) -> object:
        self._write(json.dumps(what).encode() + b"\n")
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def _write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()


@contextmanager
def talking(namespace: Namespace) -> Iterator[Talk]:
    talk = Talk(namespace)
    try:
        yield talk
    finally:
        talk.process.stdin.close()  # type: ignore[union-attr]
        talk.process.stdout.close()  # type: ignore[union-attr]
        assert talk.process.wait(10) == 0


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts on one wire."""
    holders = [
        subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE) for _ in range(2)
    ]
    here, there = (Namespace(holder.pid) for holder in holders)
    try:
        for holder in holders:
            assert holder.stdout
            holder.stdout.readline()  # it is in its namespace now
        here.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(there.pid))
        for namespace, address in ((here, HERE), (there, THERE)):
            namespace.run("ip", "link", "set", "lo", "up")
            namespace.run("ip", "addr", "add", f"{address}/24", "dev", "wire")
            namespace.run("ip", "link", "set", "wire", "up")
        yield here, there
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
            if holder.stdout:
                holder.stdout.close()


def probe(namespace: Namespace, **path: object) -> tuple[str, str]:
    asked = {"id": "x", "user": "nobody", "protocol": "tcp", "address": THERE, "port": LISTENER, "expected": "closed", **path}
    with talking(namespace) as talk:
        (said,) = talk.ask([asked])  # type: ignore[misc]
        talk.ask("stop")
    return said["observed"], said["evidence"]


def test_an_open_path_connects_and_the_host_says_who_came(pair: tuple[Namespace, Namespace]) -> None:
    here, there = pair
    with talking(there) as listener:
        assert probe(here) == ("open", "answered")
        assert listener.ask([]) == []
        assert listener.ask("stop") == [HERE]


def test_a_port_where_nobody_listens_is_told_from_a_closed_way(pair: tuple[Namespace, Namespace]) -> None:
    assert probe(pair[0], port=9)[0] == "refused"


@pytest.mark.parametrize(
    "verdict",
    [
        "drop",
        "reject",
        "reject with tcp reset",
        "reject with icmpx type admin-prohibited",
        "reject with icmp type net-unreachable",
    ],
)
def test_whatever_the_own_firewall_does_to_a_packet_it_is_closed(pair: tuple[Namespace, Namespace], verdict: str) -> None:
    here, there = pair
    here.firewall("output", f"meta skuid nobody meta l4proto tcp {verdict}")
    with talking(there):
        assert probe(here)[0] == "closed"
        assert probe(here, user="root")[0] == "open"


def test_a_packet_that_only_the_peer_drops_leaks(pair: tuple[Namespace, Namespace]) -> None:
    here, there = pair
    here.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    there.firewall("input", "meta l4proto { tcp, udp, icmp } drop")
    for protocol, port in (("tcp", LISTENER), ("udp", 53), ("icmp", 0)):
        assert probe(here, protocol=protocol, port=port) == ("leaking", "left the host without an answer"), protocol


@pytest.mark.parametrize(("protocol", "port"), [("udp", 53), ("icmp", 0)])
def test_datagrams_and_echoes_are_judged_alike(pair: tuple[Namespace, Namespace], protocol: str, port: int) -> None:
    here, _ = pair
    here.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    assert probe(here, protocol=protocol, port=port)[0] == ("refused" if protocol == "udp" else "open")
    here.firewall("output", "meta skuid nobody drop")
    assert probe(here, protocol=protocol, port=port)[0] == "closed"


def test_loopback_is_judged_by_user(pair: tuple[Namespace, Namespace]) -> None:
    here, _ = pair
    here.firewall("output", "oif lo tcp dport 47443 meta skuid != root drop")
    assert probe(here, address="127.0.0.1")[0] == "closed"
    assert probe(here, address="127.0.0.1", user="root") == ("open", "answered")


def test_without_a_route_it_is_closed(pair: tuple[Namespace, Namespace]) -> None:
    for address in ("192.0.2.1", "2001:db8::1"):
        assert probe(pair[0], address=address) == ("closed", "no route")


def test_with_a_route_and_no_firewall_the_internet_is_not_closed(pair: tuple[Namespace, Namespace]) -> None:
    pair[0].run("ip", "route", "add", "default", "via", THERE)
    assert probe(pair[0], address="192.0.2.1")[0] in {"leaking", "refused"}


def test_a_user_that_does_not_exist_proves_nothing(pair: tuple[Namespace, Namespace]) -> None:
    assert probe(pair[0], user="edgefl-absent") == ("unknown", "there is no user edgefl-absent")
