"""The probe between two network namespaces with real firewalls: it must tell a drop from a destination where nobody listens."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.fleet.wire import HERE, LISTENER, THERE, Namespace, probe, talking, wired

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="network namespaces and nft need root")


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with wired() as both:
        yield both


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


def test_an_allowed_path_is_judged_by_this_host_alone(pair: tuple[Namespace, Namespace]) -> None:
    here, there = pair
    assert probe(here, expected="allowed", port=9) == ("unanswered", "nobody listens")
    assert probe(here, expected="allowed", address="192.0.2.1") == ("unanswered", "no route")
    assert probe(here, expected="allowed", address="10.99.0.77") == ("unanswered", "no answer"), "nobody has the address"
    there.firewall("input", "meta l4proto { tcp, udp } drop")
    for protocol in ("tcp", "udp"):
        assert probe(here, expected="allowed", protocol=protocol) == ("unanswered", "no answer")
        here.firewall("output", f"meta skuid nobody meta l4proto {protocol} reject with icmpx type admin-prohibited")
        assert probe(here, expected="allowed", protocol=protocol)[0] == "closed"
        here.run("nft", "flush", "ruleset")


def test_a_search_for_a_neighbour_that_ends_in_vain_is_no_wall(pair: tuple[Namespace, Namespace]) -> None:
    """The kernel gives a search up after 3 s, and then tells everyone who waits the same as a wall does."""
    here, _ = pair
    patient = "import socket; s = socket.socket(); s.settimeout(9); print(s.connect_ex(('10.99.0.77', 9)))"
    found = subprocess.Popen([*here.inside(), "python3", "-c", patient], stdout=subprocess.PIPE, text=True)
    seen = set()
    while found.poll() is None:
        seen.add(probe(here, expected="allowed", address="10.99.0.77"))
    assert found.stdout
    assert found.stdout.read().strip() == str(errno.EHOSTUNREACH)
    found.stdout.close()
    assert seen == {("unanswered", "no answer")}
