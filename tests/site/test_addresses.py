"""Lab addresses are a function of the site."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from edgefl.site.addresses import assign
from edgefl.site.model import Site


def addresses(network: str, *devices: str | None) -> list[str]:
    hosts = [{"name": f"edge-{n}", "address": given} for n, given in enumerate(devices)]
    site = Site.model_validate({"name": "a", "devices": hosts, "infrastructure": {"network": network}})
    return [str(address) for address in assign(site).values()]


def test_the_coordinator_gets_ten_and_devices_follow_in_order() -> None:
    assert addresses("10.77.0.1/24", None, None) == ["10.77.0.10", "10.77.0.11", "10.77.0.12"]


def test_a_named_address_stays_and_nobody_else_gets_it() -> None:
    assert addresses("10.77.0.10/24", "10.77.0.12", None, None) == ["10.77.0.11", "10.77.0.12", "10.77.0.13", "10.77.0.14"]


def test_a_small_network_is_filled_from_both_ends() -> None:
    given = addresses("10.77.0.1/28", *[None] * 12)
    assert len(set(given)) == 13
    assert ip_address("10.77.0.1") not in map(ip_address, given)


def test_a_network_that_is_too_small_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer than 7 hosts"):
        addresses("10.77.0.1/29", *[None] * 6)


def test_who_watches_stands_below_the_coordinator_and_stays_there_while_devices_come_and_go() -> None:
    def watch(network: str, devices: int, **said: str) -> dict[str, str]:
        hosts = [{"name": f"edge-{n}"} for n in range(devices)]
        watched = {"prometheus": True, "host": said}
        site = {"name": "a", "devices": hosts, "infrastructure": {"network": network}, "observability": watched}
        return {name: str(address) for name, address in assign(Site.model_validate(site)).items()}

    assert [watch("10.77.0.1/24", count)["watch"] for count in (1, 2, 9)] == ["10.77.0.9"] * 3
    assert watch("10.77.0.9/24", 1)["watch"] == "10.77.0.8"
    assert watch("10.77.0.1/24", 1, address="10.77.0.99") == {
        "coordinator": "10.77.0.10", "edge-0": "10.77.0.11", "watch": "10.77.0.99",
    }  # fmt: skip
    full = watch("10.77.0.1/29", 3)
    assert (full["watch"], len(set(full.values()))) == ("10.77.0.6", 5)
    with pytest.raises(ValueError, match="fewer than 6 hosts"):
        watch("10.77.0.1/29", 4)
