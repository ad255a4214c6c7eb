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
