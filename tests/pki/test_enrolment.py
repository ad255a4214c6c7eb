"""Only the site's own hosts are enrolled, each in its own role and under its own addresses."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from edgefl.pki import enrolment
from edgefl.pki.authority import Authority
from edgefl.pki.errors import CsrRefused
from edgefl.site.addresses import tunnelled
from edgefl.site.host import Watcher
from edgefl.site.model import Observability, Site
from edgefl.site.tunnel import Tunnel

from .test_authority import request_for

LAB = Site.model_validate({
    "name": "clinic",
    "coordinator": {"name": "hub"},
    "devices": [{"name": "edge-01"}, {"name": "edge-02"}],
})  # fmt: skip
STATIC = Site.model_validate({
    "name": "clinic",
    "infrastructure": {"module": "static"},
    "coordinator": {"name": "hub", "address": "192.0.2.10"},
    "devices": [{"name": "edge-01", "address": "192.0.2.11"}, {"name": "edge-02", "address": "192.0.2.12"}],
})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("edge-01", "device"),
        ("edge-02", "signer"),
        ("edge-01", "exporter"),
        ("hub", "gate"),
        ("hub", "superlink"),
        ("alice@desk", "operator"),
    ],
)
def test_whom_the_site_names_gets_a_certificate(tmp_path: Path, name: str, role: enrolment.Role) -> None:
    authority = Authority.open(tmp_path, site=LAB)
    authority.sign_csr(request_for(name), name=name, role=role)
    assert [(entry.subject, entry.role) for entry in authority.certificates()] == [(name, role)]


@pytest.mark.parametrize(
    ("name", "role", "says"),
    [
        ("edge-99", "device", "edge-99 is no device of clinic: enrolled are edge-01, edge-02"),
        ("hub", "device", "hub is no device"),
        ("hub", "signer", "hub is no signer"),
        ("edge-01", "gate", "edge-01 is no gate of clinic: enrolled are hub"),
        ("edge-01", "superlink", "edge-01 is no superlink"),
        ("evil", "gate", "evil is no gate"),
        ("coordinator", "gate", "coordinator is no gate"),
        ("edge-01", "operator", "edge-01 is a host"),
        ("hub", "scraper", "hub is a host"),
        ("hub", "exporter", "hub is no exporter"),
        ("hub", "metrics", "hub is no metrics of clinic: enrolled are none"),
    ],
)
def test_a_well_made_request_of_a_stranger_or_for_anothers_role_is_refused(
    tmp_path: Path, name: str, role: enrolment.Role, says: str
) -> None:
    authority = Authority.open(tmp_path, site=LAB)
    with pytest.raises(CsrRefused, match=says):
        authority.sign_csr(request_for(name), name=name, role=role)
    assert authority.certificates() == []


def test_a_device_that_left_the_site_is_refused_from_then_on(tmp_path: Path) -> None:
    Authority.open(tmp_path, site=LAB).sign_csr(request_for("edge-02"), name="edge-02", role="device")
    smaller = LAB.model_copy(update={"devices": LAB.devices[:1]})
    with pytest.raises(CsrRefused, match="edge-02 is no device"):
        Authority.open(tmp_path, site=smaller).sign_csr(request_for("edge-02"), name="edge-02", role="device")


@pytest.mark.parametrize(
    ("site", "address", "says"),
    [
        (STATIC, "192.0.2.99", r"has the address 192\.0\.2\.11 in site\.yaml, not 192\.0\.2\.99"),
        (STATIC, "192.0.2.12", "not 192.0.2.12"),
        (LAB, "10.77.0.12", r"10\.77\.0\.12 is edge-02's address, not edge-01's"),
        (LAB, "10.77.0.10", "hub's address"),
        (LAB, "edge-01.example.org", "no IP address"),
    ],
)
def test_an_address_that_is_not_the_hosts_own_is_refused(site: Site, address: str, says: str) -> None:
    with pytest.raises(CsrRefused, match=says):
        enrolment.check(site, "edge-01", "device", [address])


def test_the_hosts_own_address_in_the_tunnel_is_taken_and_no_others() -> None:
    site = STATIC.model_copy(update={"isolation": STATIC.isolation.model_copy(update={"tunnel": Tunnel()})})
    inside = {name: str(address) for name, address in tunnelled(site).items()}
    hub = site.coordinator.name
    assert enrolment.check(site, hub, "gate", ["192.0.2.10", inside[hub]]) == [ip_address("192.0.2.10"), ip_address(inside[hub])]
    for another in (inside["edge-01"], "10.213.0.2"):
        with pytest.raises(CsrRefused, match=another.replace(".", r"\.")):
            enrolment.check(site, hub, "gate", [another])
    with pytest.raises(CsrRefused, match="not 10"):
        enrolment.check(STATIC, hub, "gate", [inside[hub]])


def test_the_hosts_own_address_is_taken() -> None:
    for site, address in ((STATIC, "192.0.2.11"), (LAB, "10.77.0.11")):
        assert enrolment.check(site, "edge-01", "device", [address]) == [ip_address(address)]


def test_where_a_host_of_its_own_watches_the_coordinator_has_one_more_name_and_that_host_none() -> None:
    watched = LAB.model_copy(update={"observability": Observability(prometheus=True, host=Watcher(name="watch"))})
    assert enrolment.check(watched, "hub", "metrics", []) == []
    nobodys: list[enrolment.Role] = ["metrics", "exporter", "device", "gate", "scraper"]
    for name, role in [("edge-01", "metrics"), *(("watch", role) for role in nobodys)]:
        with pytest.raises(CsrRefused, match=name):
            enrolment.check(watched, name, role, [])


def test_what_watched_with_a_certificate_and_is_asked_for_no_more_loses_it(tmp_path: Path) -> None:
    watched = LAB.model_copy(update={"observability": Observability(prometheus=True, devices=True, host=Watcher(name="watch"))})
    authority = Authority.open(tmp_path, site=watched)
    given: list[tuple[str, enrolment.Role]] = [("prometheus", "scraper"), ("own", "scraper"), ("hub", "metrics"), ("hub", "gate")]
    for name, role in (*given, ("edge-01", "exporter"), ("edge-01", "device")):
        authority.sign_csr(request_for(name), name=name, role=role)
    entries = authority.certificates()

    def lost(**said: Any) -> list[tuple[str, str]]:
        site = LAB.model_copy(update={"observability": Observability(**said)})
        return [(entry.subject, entry.role) for entry in enrolment.unwanted(site, entries)]

    assert enrolment.unwanted(watched, entries) == []
    assert lost(prometheus=True, devices=True) == [("hub", "metrics")]
    assert lost(prometheus=True) == [("hub", "metrics"), ("edge-01", "exporter")]
    assert lost() == [("prometheus", "scraper"), ("hub", "metrics"), ("edge-01", "exporter")]
    authority.revoke(next(entry.serial for entry in entries if entry.role == "exporter"), "it left")
    assert [entry.role for entry in enrolment.unwanted(LAB, authority.certificates())] == ["scraper", "metrics"]
