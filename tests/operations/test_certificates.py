"""What the register says of each name's certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgefl.errors import NotProvisioned
from edgefl.operations.certificates import NoSuchCertificate, held, of
from edgefl.pki.authority import Authority
from edgefl.pki.register import Entry, Register
from edgefl.site.model import Site

NOW = datetime.now(UTC)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}, {"name": "edge-02"}]}).at(tmp_path)


def entry(serial: str, name: str, *, begun_h: float, life_h: float = 24, role: str = "device") -> Entry:
    begins = NOW - timedelta(hours=begun_h)
    return Entry(serial, name, role, begins.isoformat(), (begins + timedelta(hours=life_h)).isoformat())


def test_each_certificate_has_its_status_and_the_newest_of_a_name_is_current(site: Site) -> None:
    Authority.open(site.state, site=site)
    register = Register(site.state / "pki" / "index.jsonl")
    for one in (
        entry("a1", "edge-02", begun_h=20),
        entry("b1", "edge-01", begun_h=30),
        entry("b2", "edge-01", begun_h=17),
        entry("b3", "edge-01", begun_h=1),
        entry("c1", "alice@desk", begun_h=1, role="operator"),
    ):
        register.issued(one)
    register.revoked("c1", "lost laptop")
    shown = [(one.entry.serial, one.standing, one.is_current) for one in held(site, NOW) if one.entry.role != "authority"]
    assert shown == [
        ("b3", "valid", True),
        ("b2", "valid", False),
        ("b1", "expired", False),
        ("a1", "near expiry", True),
        ("c1", "revoked", True),
    ]


def test_the_authorities_come_first(site: Site) -> None:
    authority = Authority.open(site.state, site=site)
    first, second = held(site, NOW)
    assert (first.entry.subject, second.entry.subject) == ("root", "issuing")
    assert second.entry.serial == format(authority.issuing.serial_number, "x")


def test_a_name_that_was_never_certified_is_told_the_nearest(site: Site) -> None:
    Authority.open(site.state, site=site)
    Register(site.state / "pki" / "index.jsonl").issued(entry("b1", "edge-01", begun_h=1))
    with pytest.raises(NoSuchCertificate) as refused:
        of("edge-1", held(site, NOW))
    assert refused.value.hint == "did you mean edge-01?"


def test_without_an_authority_there_is_nothing_to_list(site: Site) -> None:
    with pytest.raises(NotProvisioned):
        held(site, NOW)
