"""When a run may end after it has looked: only where nothing that any task decides by has changed."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki.authority import Authority
from edgefl.share import share
from edgefl.site import load

sys.path.insert(0, str(share("playbooks") / "collections"))
from ansible_collections.edgefl.host.plugins.plugin_utils import standing  # found by the line above

Facts = dict[str, Any]
UNIT = {"exists": True, "enabled": True, "active": True, "reload": False, "started": 10.0, "defined": 5.0, "restarts": 0}


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}]\n")
    site = load(tmp_path)
    authority = Authority.open(site.state, site=site)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge-01")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    csr = request.public_bytes(serialization.Encoding.PEM)
    chain = authority.sign_csr(csr, name="edge-01", role="device", addresses=["10.77.0.11"]).chain.decode()
    return {
        "clock": 100.0,
        "clock_skew_s": 0.1,
        "problems": [],
        "machine": {"architecture": "x86_64", "free_mb": {"/var": 5000}},
        "paths": {"/etc/edgefl/host.json": {"kind": "file", "sha256": "1"}, "/var/lib/edgefl/app": {"kind": "directory"}},
        "changed_at": {"/etc/edgefl/host.json": 4.0, "/var/lib/edgefl/app": 4.0},
        "units": {"edgefl-supernode": dict(UNIT), "edgefl-gate": {**UNIT, "exists": False, "active": False, "enabled": False}},
        "firewall": {"live": "a", "expected": "a"},
        "identity": {"certificates": {"device": chain, "ca": authority.bundle().decode()}, "crl": authority.crl().decode()},
        "devices": {"edge-01": True},
    }


def stands(before: Facts, after: Facts, now: datetime | None = None) -> bool:
    record = {"edge-01": ["wanted", standing.observed(before)]}
    return standing.stands(record, {"edge-01": "wanted"}, {"edge-01": after}, now or datetime.now(UTC))


def test_a_host_that_was_left_alone_stands(facts: Facts) -> None:
    later = copy.deepcopy(facts)
    later.update(clock=900.0, clock_skew_s=-0.3)
    later["machine"]["free_mb"]["/var"] = 4000
    later["changed_at"]["/var/lib/edgefl/app"] = 800.0
    later["units"]["edgefl-supernode"].update(started=700.0, restarts=1)

    assert stands(facts, later)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["paths"]["/etc/edgefl/host.json"].update(sha256="2"),
        lambda facts: facts["paths"].pop("/etc/edgefl/host.json"),
        lambda facts: facts["changed_at"].update({"/etc/edgefl/host.json": 9.0}),
        lambda facts: facts["units"]["edgefl-supernode"].update(active=False),
        lambda facts: facts["units"]["edgefl-supernode"].update(enabled=False),
        lambda facts: facts["units"]["edgefl-supernode"].update(defined=9.0),
        lambda facts: facts["units"]["edgefl-gate"].update(exists=True, active=True, enabled=True),
        lambda facts: facts["firewall"].update(live="b"),
        lambda facts: facts["firewall"].update(live="b", expected="b"),
        lambda facts: facts["devices"].update({"edge-01": False}),
        lambda facts: facts["identity"]["certificates"].update(device=""),
        lambda facts: facts["machine"].update(architecture="aarch64"),
        lambda facts: facts.update(problems=["its clock is off"]),
    ],
)
def test_what_any_task_would_look_at_sends_the_run_through_all_of_them(facts: Facts, change: Callable[[Facts], None]) -> None:
    later = copy.deepcopy(facts)
    change(later)

    assert not stands(facts, later)


def test_what_did_not_work_when_the_run_ended_never_stands(facts: Facts) -> None:
    for broken in (
        {"firewall": {"live": "", "expected": ""}},
        {"units": {"edgefl-supernode": {**UNIT, "active": False}}},
        {"units": {}},
    ):
        assert not stands({**facts, **broken}, {**facts, **broken})


def test_a_host_whose_certificate_is_due_does_not_stand(facts: Facts) -> None:
    now = datetime.now(UTC)

    assert stands(facts, facts, now + timedelta(hours=15))
    assert not stands(facts, facts, now + timedelta(hours=17))


def test_all_hosts_stand_or_none(facts: Facts) -> None:
    record = {"edge-01": ["wanted", standing.observed(facts)]}
    wants = {"edge-01": "wanted", "edge-02": "wanted"}

    assert not standing.stands(record, wants, dict.fromkeys(wants, facts), datetime.now(UTC))


def test_what_is_wanted_is_what_the_operator_says_and_not_what_ansible_adds() -> None:
    said = {"runtime_app_hash": "1", "ansible_host": "10.77.0.11", "inventory_dir": "/a", "groups": {"all": ["edge-01"]}}

    assert standing.wanted(said, ["authority"]) == standing.wanted({"runtime_app_hash": "1"}, ["authority"])
    assert standing.wanted(said, ["authority"]) != standing.wanted({**said, "runtime_app_hash": "2"}, ["authority"])
    assert standing.wanted(said, ["authority"]) != standing.wanted(said, ["another"])


def test_another_word_of_the_authority_is_another_wish_for_every_host() -> None:
    wants = {"edge-01": "a", "edge-02": "b"}
    one, other = standing.under(wants, "word"), standing.under(wants, "another")

    assert standing.under(wants, "word") == one
    assert all(one[name] != other[name] for name in wants)
    assert one["edge-01"] != one["edge-02"]


def test_a_playbook_that_was_edited_is_another(tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "main.yml").write_text("a")
    before = standing.of_tree(tmp_path)
    (tmp_path / "roles" / "main.yml").write_text("b")

    assert standing.of_tree(tmp_path) != before


def test_a_record_survives_and_a_broken_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "standing.json"

    assert standing.load(path) == {}
    standing.save(path, {"edge-01": ["a", "b"]})
    assert standing.load(path) == {"edge-01": ["a", "b"]}
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("{")
    assert standing.load(path) == {}
