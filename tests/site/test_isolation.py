"""One allowance as it is written, and what it opens."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefl.site import SiteInvalid, load
from edgefl.site.isolation import Allowance


def allowance(**said: object) -> Allowance:
    return Allowance.model_validate({"address": "192.0.2.7", "port": 104, **said})


def written(directory: Path, entry: str) -> list[tuple[int, str]]:
    """Line and words of every finding in a site with this allowance."""
    text = f"name: clinic\ndevices: [{{name: edge-01}}]\nrun: {{rounds: 0}}\nisolation:\n  device:\n    - {entry}\n"
    (directory / "site.yaml").write_text(text)
    with pytest.raises(SiteInvalid) as invalid:
        load(directory)
    return [(finding.where.line, finding.what) for finding in invalid.value.findings if finding.where.line != 3]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{address: pacs.example, port: 104}", "address must be an IP address or a network, e.g. 192.0.2.7 or 192.0.2.0/28, not"),
        ("{address: 7, port: 104}", "address must be"),
        (
            "{address: 192.0.2.7/24, port: 104}",
            "must be 192.0.2.0/24 (the network) or 192.0.2.7 (the one host), not '192.0.2.7/24'",
        ),
        ("{address: 'fd00::7/64', port: 104}", "must be fd00::/64 (the network) or fd00::7 (the one host)"),
        ("{address: 192.0.2.7, port: 0}", "port must be a port from 1 to 65535, or a range of them, e.g. 11112-11115, not 0"),
        ("{address: 192.0.2.7, port: 65536}", "port must be a port from 1 to 65535"),
        ("{address: 192.0.2.7, port: 0-104}", "port must be a port"),
        ("{address: 192.0.2.7, port: 105-104}", "port must be a port"),
        ("{address: 192.0.2.7, port: 104-65536}", "port must be a port"),
        ("{address: 192.0.2.7, port: dicom}", "port must be a port"),
        ("{address: 192.0.2.7, port: yes}", "port must be a port"),
        ("{address: 192.0.2.7, port: 104, protocol: icmp}", "protocol must be tcp or udp, not 'icmp'"),
        ("{address: 192.0.2.7, port: 104, by: node}", "by must be task or host, not 'node'"),
        ("{address: 192.0.2.7}", "isolation.device[0].port is missing"),
        ("{address: 192.0.2.7, ports: 104}", "unknown key 'ports' in isolation.device[0]"),
        ("192.0.2.7:104", "isolation.device[0] must be a section"),
    ],
)
def test_an_allowance_that_is_none_is_named_with_its_line(tmp_path: Path, entry: str, what: str) -> None:
    found = written(tmp_path, entry)
    assert {line for line, _ in found} == {6}, found
    assert any(what in words for _, words in found), found


def test_a_mistake_in_an_allowance_hides_none_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "name: clinic\ndevices: [{name: edge-01}, {name: edge-01}]\nisolation:\n"
        "  operator_addresses: [here]\n  device: [{address: 192.0.2.7}, {port: 0}]\n"
    )
    with pytest.raises(SiteInvalid) as invalid:
        load(tmp_path)
    assert [finding.where.line for finding in invalid.value.findings] == [2, 4, 5, 5, 5]


@pytest.mark.parametrize("said", ["104", 104, "0104", "104-104"])
def test_a_port_reads_the_same_however_it_is_written(said: object) -> None:
    assert allowance(port=said) == allowance()


@pytest.mark.parametrize(
    ("one", "shown"),
    [
        (allowance(), "192.0.2.7:104/tcp"),
        (allowance(address="fd00::7", protocol="udp"), "[fd00::7]:104/udp"),
        (allowance(address="fd00::/64", port="1-9"), "[fd00::/64]:1-9/tcp"),
    ],
)
def test_an_allowance_is_shown_as_people_write_it(one: Allowance, shown: str) -> None:
    assert str(one) == shown


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(1, 65535))
def test_a_range_opens_its_ends_what_lies_between_and_nothing_else(first: int, last: int, port: int) -> None:
    first, last = min(first, last), max(first, last)
    one = allowance(port=f"{first}-{last}")
    here = ip_address("192.0.2.7")
    assert one.covers(here, port, "tcp") == (first <= port <= last)
    assert not one.covers(here, port, "udp")
    assert not one.covers(ip_address("192.0.2.8"), port, "tcp")
    assert not one.covers(ip_address("fd00::7"), port, "tcp")


@pytest.mark.parametrize(
    ("one", "other", "is_within"),
    [
        (allowance(), allowance(), True),
        (allowance(), allowance(address="192.0.2.0/28"), True),
        (allowance(address="192.0.2.0/28"), allowance(), False),
        (allowance(), allowance(port="100-104"), True),
        (allowance(port="104-106"), allowance(port="100-105"), False),
        (allowance(), allowance(protocol="udp"), False),
        (allowance(), allowance(by="host"), False),
        (allowance(), allowance(address="fd00::/64"), False),
    ],
)
def test_what_opens_no_more_than_another_lies_within_it(one: Allowance, other: Allowance, is_within: bool) -> None:
    assert one.within(other) is is_within
