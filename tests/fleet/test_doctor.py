"""The doctor's judgements that need no host, and the one about a host that is away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl import layout
from edgefl.errors import EdgeflError
from edgefl.events.schema import Body, EnrolmentOpened, EnrolmentRefused, EnrolmentUsed, Event
from edgefl.fleet import doctor, enrolments, hosts, observing, registration
from edgefl.fleet.facts import Facts
from edgefl.fleet.finding import Finding
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.model import Device, Isolation, Site
from edgefl.site.observability import Observability
from tests.monitor.watching import ROLE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE = Host("edge-01", "device", "127.0.0.1", 1, "root")
SITE = Site(name="t", devices=[Device(name="edge-01")])
COORDINATOR = Host("coordinator", "coordinator", "127.0.0.2", 1, "root")
WATCH = Host("watch", "watcher", "127.0.0.3", 1, "root")
FACTS = Facts("3.11.2", "x86_64", "2.36", "bookworm", "6.1", 2, 1536, {"/opt": 9000}, True, ("nft",), 0.0)


def pem(name: str, start: datetime, end: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    signed = builder.serial_number(1).not_valid_before(start).not_valid_after(end).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("certificate", "verdict", "says"),
    [
        (pem("edge-01", NOW - timedelta(hours=1), NOW + timedelta(hours=23)), "good", "23.0 h"),
        (pem("edge-01", NOW - timedelta(hours=30), NOW - timedelta(hours=6)), "bad", "expired on 2025-12-31 18:00"),
        (pem("edge-01", NOW + timedelta(hours=1), NOW + timedelta(hours=9)), "bad", "only from"),
        (pem("edge-02", NOW - timedelta(hours=1), NOW + timedelta(hours=9)), "bad", "is for edge-02"),
        ("", "bad", "has none"),
        ("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "bad", "cannot be read"),
    ],
    ids=["valid", "expired", "not yet", "another's", "none", "nonsense"],
)
def test_a_certificate_is_judged_by_name_and_time(certificate: str, verdict: str, says: str) -> None:
    finding = doctor.certificate(DEVICE, replace(FACTS, certificate=certificate), NOW)
    assert (finding.verdict, says in finding.found) == (verdict, True), finding


OPENED = EnrolmentOpened(subject="edge-01", token_sha256="a" * 64, valid_s=3600)
USED = EnrolmentUsed(subject="edge-01", source="10.0.0.9", token_sha256="a" * 64, serial="ab", key_sha256="b" * 64, chain="")
REFUSED = EnrolmentRefused(subject="edge-01", source="10.0.0.9", reason="the token of edge-01 was used for another key")


@pytest.mark.parametrize(
    ("said", "late_h", "verdict", "says", "fix"),
    [
        ([], 0, "skipped", "none was given out", ""),
        ([OPENED], 0.5, "bad", "counts until 01:00 UTC and was not used yet", f"on edge-01: {layout.ENROL}"),
        ([OPENED], 1, "bad", "ended at 2026-01-01 01:00 UTC and was not used", "edgefl enrol token edge-01; or edgefl up"),
        ([OPENED, REFUSED], 0.5, "bad", "was refused, from 10.0.0.9: the token", "edgefl enrol token edge-01; or edgefl up"),
        ([REFUSED, OPENED], 0.5, "bad", "was not used yet", f"on edge-01: {layout.ENROL}"),
        ([OPENED, USED], 0.5, "skipped", "its last was used from 10.0.0.9", ""),
        ([OPENED, USED, REFUSED], 0.5, "bad", "was refused", "edgefl enrol token edge-01; or edgefl up"),
    ],
)
def test_what_a_token_came_to_is_told_where_there_is_no_certificate(
    said: list[Body], late_h: float, verdict: str, says: str, fix: str
) -> None:
    events = [Event(seq=seq, at=NOW, body=body, previous="", hash="") for seq, body in enumerate(said, 1)][::-1]
    now = NOW + timedelta(hours=late_h)
    finding = enrolments.judge("edge-01", is_certified=False, heard=events, now=now)
    assert (finding.check, finding.verdict, says in finding.found, finding.fix) == ("token", verdict, True, fix), finding
    assert enrolments.judge("edge-01", is_certified=True, heard=events, now=now).verdict == "good"


def chain(hook: str, policy: str) -> dict[str, str]:
    return {"table": "edgefl", "name": hook, "hook": hook, "policy": policy}


def test_a_certificate_of_another_authority_is_told_before_its_end() -> None:
    own = pem("edge-01", NOW - timedelta(hours=1), NOW + timedelta(hours=23))
    [itself] = x509.load_pem_x509_certificates(own.encode())
    stranger = x509.load_pem_x509_certificate(pem("edge-01", NOW, NOW + timedelta(hours=1)).encode())
    told = replace(FACTS, certificate=own)
    assert doctor.certificate(DEVICE, told, NOW, [stranger, itself]).verdict == "good"
    other = doctor.certificate(DEVICE, told, NOW, [stranger])
    assert (other.verdict, "not of the site's authority" in other.found) == ("bad", True)


def authority(name: str, above: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None, *, ca: bool = True):  # type: ignore[no-untyped-def]
    """A certificate below another one, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signer = (above[0].subject, above[1]) if above else (subject, key)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(NOW - timedelta(hours=1)).not_valid_after(NOW + timedelta(hours=23))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(signer, hashes.SHA256()), key


def test_a_certificate_that_the_coordinator_signed_is_of_the_site_by_its_chain() -> None:
    root = authority("root", None)
    renewal = authority("renewal", root)
    renewed, other = authority("edge-01", renewal, ca=False), authority("edge-02", root, ca=False)
    by_a_device = authority("edge-01", other, ca=False)

    def judged(leaf: x509.Certificate, above: x509.Certificate, trusted: x509.Certificate) -> Finding:
        chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (leaf, above)).decode()
        return doctor.certificate(DEVICE, replace(FACTS, certificate=chain), NOW, [trusted])

    assert judged(renewed[0], renewal[0], root[0]).verdict == "good"
    assert "not of the site's authority" in judged(renewed[0], renewal[0], authority("root", None)[0]).found
    assert "not of the site's authority" in judged(by_a_device[0], other[0], root[0]).found, "a device is no authority"


def test_a_clock_is_held_against_the_operators_and_the_coordinators() -> None:
    site = Site(name="t", devices=[Device(name="edge-01")])
    assert doctor.clock(DEVICE, site, FACTS, 6.0).verdict == "good"
    assert "90 s behind" in doctor.clock(DEVICE, site, replace(FACTS, skew_s=-90.0), None).found
    assert "40 s ahead of the coordinator's" in doctor.clock(DEVICE, site, FACTS, 40.0).found


def test_the_verdict_is_the_first_that_is_bad() -> None:
    good, bad, worse = (Finding("edge-01", "tcp", verdict, "") for verdict in ("good", "bad", "bad"))
    assert doctor.verdict([good]) is None
    assert doctor.verdict([good, bad, worse]) is bad


@pytest.mark.parametrize(
    ("how", "verdict", "says"),
    [
        ("online", "good", "it is online"),
        ("registered", "good", "is registered"),
        ("unknown", "bad", "does not know it"),
        ("another key", "bad", "another key"),
        ("removed", "bad", "never takes a key back"),
    ],
)
def test_registration_is_judged_by_what_the_superlink_knows(how: str, verdict: str, says: str) -> None:
    finding = registration.judge("edge-01", how)
    assert (finding.verdict, says in finding.found, bool(finding.fix)) == (verdict, True, verdict == "bad"), finding


def test_a_firewall_that_does_not_drop_both_ways_is_bad() -> None:
    both = (chain("input", "drop"), chain("output", "drop"))
    assert doctor.firewall(DEVICE, replace(FACTS, firewall=both)).verdict == "good"
    assert "output" in doctor.firewall(DEVICE, replace(FACTS, firewall=(both[0], chain("output", "accept")))).found
    assert "input and output" in doctor.firewall(DEVICE, FACTS).found
    assert "somebody changed them" in doctor.firewall(DEVICE, replace(FACTS, firewall=both, walls="altered")).found


def test_each_service_of_the_role_is_judged() -> None:
    units = (
        {"Id": "edgefl-supernode.service", "ActiveState": "active", "SubState": "running", "Result": "success", "NRestarts": "3"},
        {
            "Id": "edgefl-superexec.service",
            "ActiveState": "failed",
            "SubState": "failed",
            "Result": "exit-code",
            "NRestarts": "0",
        },
    )
    node, executor = doctor.services(DEVICE, SITE, replace(FACTS, services=units))
    assert (node.verdict, "restarted 3 times" in node.found) == ("good", True)
    assert (executor.verdict, "journalctl -u edgefl-superexec" in executor.fix) == ("bad", True)
    asleep = ({**units[1], "ActiveState": "inactive"},)
    assert [found.fix for found in doctor.services(DEVICE, SITE, replace(FACTS, services=asleep))] == [
        "edgefl up",
        "edgefl up starts it",
    ]
    assert [finding.found for finding in doctor.services(DEVICE, SITE, FACTS)] == ["is not installed"] * 2


READERS = ["edgefl-prometheus", "edgefl-alertmanager", "edgefl-node-exporter"]


@pytest.mark.parametrize(
    ("asked", "coordinator", "device", "watcher"),
    [
        ({}, [], [], []),
        ({"prometheus": True}, READERS, [], []),
        ({"prometheus": True, "devices": True}, READERS, READERS[2:], []),
        ({"prometheus": True, "host": {"name": "watch"}}, READERS[2:], [], READERS),
        ({"prometheus": True, "devices": True, "host": {"name": "watch"}}, READERS[2:], READERS[2:], READERS),
    ],
    ids=["nobody watches", "on the coordinator", "devices, too", "on a host of its own", "and devices"],
)
def test_what_watches_is_missed_where_the_site_says_that_it_runs(
    asked: dict[str, Any], coordinator: list[str], device: list[str], watcher: list[str]
) -> None:
    site = Site(name="t", devices=[Device(name="edge-01")], observability=Observability.model_validate(asked))
    for host, expected in ((COORDINATOR, coordinator), (DEVICE, device), (WATCH, watcher)):
        missing = [finding for finding in doctor.services(host, site, FACTS) if finding.verdict == "bad"]
        assert [finding.check for finding in missing if finding.check in READERS] == expected, host.name
    dead = {"ActiveState": "failed", "SubState": "failed", "Result": "signal", "NRestarts": "0"}
    units = tuple({"Id": f"{name}.service", **dead} for name in READERS)
    said = list(doctor.services(WATCH, site, replace(FACTS, services=units)))
    assert [(finding.check, finding.found) for finding in said] == [(name, "is failed (failed, signal)") for name in watcher]


def test_what_watches_is_what_its_role_starts() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert [unit["name"] for unit in defaults["observability_units"]] == list(observing.READERS) == READERS
    assert [unit["name"] for unit in defaults["observability_device_units"]] == [observing.EXPORTER]


def test_a_host_that_watches_is_known_by_what_it_reads_with_and_coordinates_nothing() -> None:
    for name, verdict in (("prometheus", "good"), ("watch", "bad")):
        own = pem(name, NOW - timedelta(hours=1), NOW + timedelta(days=29))
        assert doctor.certificate(WATCH, replace(FACTS, certificate=own), NOW).verdict == verdict
    assert "registration" not in doctor.checks(WATCH)
    tunnelled = Site(name="t", devices=[Device(name="edge-01")], isolation=Isolation.model_validate({"tunnel": "wireguard"}))
    assert list(doctor.tunnel(WATCH, tunnelled, FACTS)) == []


def test_an_end_of_the_tunnel_that_is_down_is_bad_where_the_site_has_one() -> None:
    site = Site(name="t", devices=[Device(name="edge-01")])
    assert list(doctor.tunnel(DEVICE, site, FACTS)) == []
    tunnelled = site.model_copy(update={"isolation": Isolation(tunnel="wireguard")})
    (missing,) = doctor.tunnel(DEVICE, tunnelled, FACTS)
    assert (missing.check, missing.verdict, missing.fix) == ("tunnel-edgefl", "bad", "edgefl up")


async def test_what_rests_on_a_bad_check_is_skipped() -> None:
    site = Site(name="t", devices=[Device(name="edge-01")])
    findings = [finding async for finding in doctor.examine(DEVICE, site, COORDINATOR)]
    assert [finding.check for finding in findings] == list(doctor.checks(DEVICE))
    assert [finding.verdict for finding in findings] == ["bad", *["skipped"] * (len(findings) - 1)]
    assert "refused" in findings[0].found


def test_a_host_is_chosen_by_name_or_the_nearest_one_is_told() -> None:
    inventory = Inventory((COORDINATOR, DEVICE))
    assert hosts.select(inventory, []) == inventory.hosts
    assert hosts.select(inventory, ["edge-01"]) == (DEVICE,)
    with pytest.raises(EdgeflError) as unknown:
        hosts.select(inventory, ["edge-1"])
    assert unknown.value.hint == "did you mean edge-01?"
    assert unknown.value.exit_code == 2


def test_the_commands_parse_and_say_what_their_exit_codes_mean(tmp_path: Path) -> None:
    import argparse

    from edgefl.cli import doctor as doctor_command
    from edgefl.cli import verify as verify_command

    for command in (doctor_command, verify_command):
        parser = argparse.ArgumentParser()
        command.configure(parser)
        assert parser.parse_args(["edge-01"]).hosts == ["edge-01"]
        assert "exit codes:" in (parser.epilog or "")
