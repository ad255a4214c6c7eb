"""The tunnel as a site asks for it, and who has which address in it."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.site import SiteInvalid, load
from edgefl.site.addresses import tunnelled
from edgefl.site.checks import mistakes
from edgefl.site.model import Isolation, Site
from edgefl.site.tunnel import Tunnel, addresses

NETWORK = Tunnel().network
NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), min_size=1, max_size=40, unique=True)


def site(tunnel: object, **isolation: Any) -> Site:
    static = {"module": "static"}
    operators = {"operator_addresses": ["198.51.100.9"]}
    devices = [{"name": "ward-a", "address": "192.0.2.11"}, {"name": "ward-b", "address": "192.0.2.12"}]
    said = {"name": "t", "infrastructure": static, "coordinator": {"address": "192.0.2.10"}, "devices": devices}
    return Site.model_validate({**said, "isolation": {**operators, "tunnel": tunnel, **isolation}})


def test_a_site_that_says_nothing_of_a_tunnel_has_none() -> None:
    assert Isolation().tunnel is None
    assert tunnelled(site(None)) == {}


def test_the_word_alone_means_every_default() -> None:
    assert site("wireguard").isolation.tunnel == Tunnel() == site({}).isolation.tunnel
    assert list(mistakes(site("wireguard"))) == []


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("ipsec", "isolation.tunnel must be wireguard, or a section with its settings, not 'ipsec'"),
        ("{port: 0}", "isolation.tunnel.port must be at least 1"),
        ("{network: 10.213.0.0/24}", "isolation.tunnel.network must be a private IPv4 network of /16 or larger"),
        ("{network: 8.0.0.0/8}", "isolation.tunnel.network must be a private IPv4 network"),
        ("{network: 127.0.0.0/8}", "isolation.tunnel.network must be a private IPv4 network"),
        ("{endpoint: vpn.example}", "isolation.tunnel.endpoint must be an IP address"),
        ("{keepalive: 25}", "unknown key 'keepalive' in isolation.tunnel"),
    ],
)
def test_a_tunnel_that_is_none_is_named_with_its_line(tmp_path: Path, said: str, what: str) -> None:
    (tmp_path / "site.yaml").write_text(f"name: clinic\ndevices: [{{name: edge-01}}]\nisolation:\n  tunnel: {said}\n")
    with pytest.raises(SiteInvalid) as invalid:
        load(tmp_path)
    assert [(finding.where.line, what in finding.what) for finding in invalid.value.findings] == [(4, True)], (
        invalid.value.findings
    )


@pytest.mark.parametrize(
    ("isolation", "owner"),
    [
        ({"operator_addresses": ["10.213.0.1"]}, "is the operator's"),
        ({"dns": ["10.213.0.1"]}, "is one that hosts may ask"),
        ({"device": [{"address": "10.213.0.0/24", "port": 443}]}, "is allowed as 10.213.0.0/24:443/tcp"),
    ],
)
def test_an_address_in_the_tunnel_is_nobody_elses(isolation: dict[str, Any], owner: str) -> None:
    (found,) = mistakes(site("wireguard", **isolation))
    assert found[0] == ("isolation", "tunnel")
    assert found[1] == f"10.213.0.1, which coordinator would have in the tunnel, {owner}"


@given(names=NAMES)
@settings(max_examples=25)
def test_every_host_has_an_address_of_its_own_in_the_network(names: list[str]) -> None:
    chosen = addresses(NETWORK, "the coordinator", tuple(names))
    assert next(iter(chosen)) == "the coordinator"
    assert set(chosen) == {"the coordinator", *names}
    assert len(set(chosen.values())) == len(chosen)
    ends = (NETWORK.network_address, NETWORK.broadcast_address)
    assert all(address in NETWORK and address not in ends for address in chosen.values())


def test_who_joins_or_leaves_moves_nobody_else() -> None:
    names = tuple(f"edge-{number:02}" for number in range(1, 101))
    whole = addresses(NETWORK, "coordinator", names)
    for gone in (names[0], names[50]):
        rest = addresses(NETWORK, "coordinator", tuple(name for name in names if name != gone))
        assert rest == {name: address for name, address in whole.items() if name != gone}


def test_two_names_that_are_drawn_to_one_place_both_have_one() -> None:
    tight = IPv4Network("192.0.2.0/29")  # five places for devices
    assert len(set(addresses(tight, "coordinator", tuple("abcde")).values())) == 6
