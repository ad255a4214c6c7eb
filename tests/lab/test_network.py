from ipaddress import IPv4Address, IPv4Interface

import pytest

from edgefl.lab import network
from edgefl.lab.network import Link, Port

LAB = IPv4Interface("10.77.0.1/24")


def test_interface_names_fit_the_kernel_for_every_host_of_a_wide_network() -> None:
    port = Port.of("a-name-that-is-as-long-as-it-gets", "10.77.255.254", IPv4Interface("10.77.0.1/16"))
    assert len(port.interface) <= 15
    assert Port.of("edge-01", "10.77.0.11", LAB).interface == "port-11"


@pytest.mark.parametrize("address", ["10.78.0.2", "10.77.0.1", "10.77.0.0", "10.77.0.255", "nonsense"])
def test_an_address_that_no_host_can_have_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=address):
        Port.of("edge-01", address, LAB)


def test_every_address_has_its_ipv6_twin() -> None:
    assert str(network.ula(IPv4Address("10.77.0.11"))) == "fd77:edf1::a4d:b"


def test_rates_limit_each_direction_by_itself() -> None:
    port = Port.of("edge-01", "10.77.0.11", LAB)
    assert network.rates_script(port, Link()) == ""
    down = network.rates_script(port, Link(downlink_mbit=20))
    assert "dev port-11 root tbf rate 20000000bit" in down
    assert "ifb" not in down
    up = network.rates_script(port, Link(uplink_mbit=0.5))
    assert "dev ifb-11 root tbf rate 500000bit" in up
    assert "port-11 root" not in up


def test_a_partition_is_right_however_often_it_is_said() -> None:
    a, b = (Port.of(f"edge-{n}", f"10.77.0.{n}", LAB) for n in (11, 12))
    assert network.partition_rules(a, b, parted=False).startswith(network.partition_rules(a, b, parted=True))
