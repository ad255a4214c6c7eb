"""What may not be allowed, whatever it is good for."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from edgefl.site.allowances import own_hosts
from edgefl.site.checks import mistakes
from edgefl.site.model import Site

PACS = {"address": "192.0.2.7", "port": 11112}


def site(*device: dict[str, Any], coordinator: list[dict[str, Any]] | None = None, **sections: Any) -> Site:
    isolation = {"device": device, "coordinator": coordinator or [], "operator_addresses": ["198.51.100.9"]}
    return Site.model_validate(
        {"name": "t", "devices": [{"name": "edge-01"}, {"name": "edge-02"}], "isolation": isolation} | sections
    )


def lab(address: str, port: int | str = 5432, **more: str) -> Site:
    return site({"address": address, "port": port, **more})


@pytest.mark.parametrize(
    "right",
    [
        lab("192.0.2.7"),
        lab("fd00:7::/64", "8000-8010", protocol="udp"),
        lab("10.0.0.0/10"),
        lab("10.77.0.1"),
        lab("198.51.100.9", by="host"),
        site(PACS, {**PACS, "by": "host"}, {**PACS, "protocol": "udp"}, {**PACS, "port": 104}, coordinator=[PACS]),
    ],
)
def test_ways_to_others_hosts_are_the_sites_affair(right: Site) -> None:
    assert list(mistakes(right)) == []


@pytest.mark.parametrize(
    ("wrong", "key", "what"),
    [
        (lab("0.0.0.0/0"), "address", "0.0.0.0/0 is every address there is: a host that may reach them is not isolated"),
        (lab("::/0"), "address", "is every address there is"),
        (lab("128.0.0.0/1"), "address", "2,147,483,648 addresses: a host that may reach them is not isolated"),
        (lab("2000::/3"), "address", "is not isolated"),
        (lab("127.0.0.1"), "address", "127.0.0.1 is the host itself"),
        (lab("::1"), "address", "::1 is the host itself"),
        (lab("169.254.169.254", 80), "address", "where clouds hand out credentials"),
        (lab("169.0.0.0/8", 80), "address", "holds link-local, where clouds hand out credentials"),
        (lab("fe80::1"), "address", "link-local"),
        (lab("::ffff:10.77.0.10"), "address", "no host's address"),
        (lab("224.0.0.1"), "address", "no host's address"),
        (lab("10.77.0.10", 7443), "address", "10.77.0.10 is coordinator, of which a SuperNode reaches the fleet port"),
        (lab("10.77.0.0/28", 22), "address", "holds coordinator (10.77.0.10)"),
        (lab("10.77.0.12"), "address", "10.77.0.12 is edge-02, and no host of the site reaches a device"),
        (lab("10.77.0.1", 22), "address", "10.77.0.1:22/tcp is the operator's SSH"),
        (lab("198.51.100.0/28", "20-25", by="host"), "address", "is the operator's SSH"),
        (site(PACS, PACS), None, "192.0.2.7:11112/tcp and 192.0.2.7:11112/tcp (isolation.device[0]) open the same way"),
        (
            site(PACS, {**PACS, "port": "11100-11200"}),
            None,
            "192.0.2.7:11100-11200/tcp and 192.0.2.7:11112/tcp (isolation.device[0])",
        ),
        (site(PACS, {**PACS, "address": "192.0.2.0/28"}), None, "open the same way"),
    ],
)
def test_what_opens_too_much_is_named_where_it_stands_with_what_to_do_instead(wrong: Site, key: str | None, what: str) -> None:
    (location, said, hint), *more = mistakes(wrong)
    assert {place for place, _, _ in more} <= {location}, "a finding a line"
    index = len(wrong.isolation.device) - 1
    assert tuple(location) == ("isolation", "device", index, *([key] if key else []))
    assert what in said
    assert hint


def test_a_coordinators_ways_are_held_to_the_same() -> None:
    [(location, said, _)] = mistakes(site(coordinator=[{"address": "10.77.0.11", "port": 22}]))
    assert tuple(location) == ("isolation", "coordinator", 0, "address")
    assert "edge-01" in said


def test_hosts_whose_addresses_a_module_of_terraform_chose_are_found_when_they_are_there() -> None:
    own = site({"address": "203.0.113.0/24", "port": 443}, infrastructure={"module": "own", "source": "."})
    assert list(mistakes(own)) == []
    [(location, said, _)] = own_hosts(own, {"coordinator": ip_address("192.0.2.1"), "edge-02": ip_address("203.0.113.9")})
    assert tuple(location) == ("isolation", "device", 0, "address")
    assert "edge-02 (203.0.113.9)" in said
