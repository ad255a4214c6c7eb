"""The decisions of the playbooks' plugins: which host is fit, which certificate still serves."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.pki.authority import Authority
from edgefl.share import share
from edgefl.site import Site, load

sys.path.insert(0, str(share("playbooks") / "collections"))
from ansible_collections.edgefl.host.plugins.module_utils import units  # found by the line above
from ansible_collections.edgefl.host.plugins.plugin_utils import fitness, renewal

NEED = fitness.Requirements(
    max_clock_skew_s=5, min_disk_mb=100, min_memory_mb=500, python="3.11", architectures=["x86_64"], commands=["nft"]
)


def facts(**changes: Any) -> dict[str, Any]:
    machine = {
        "architecture": "x86_64", "distribution": "debian", "release": "12", "python": "3.11.2", "cpus": 4,
        "memory_mb": 900, "free_mb": {"/opt": 5000, "/var": 5000, "/tmp": 5000}, "systemd": True,
    }  # fmt: skip
    given = {"machine": machine, "commands": {"nft": "/usr/sbin/nft"}, "clock_skew_s": 0.2, "clock_uncertainty_s": 0.1}
    return {**given, **changes, "machine": {**machine, **changes.get("machine", {})}}


def test_a_fit_host_has_no_problems() -> None:
    assert fitness.problems(facts(), NEED) == []


@pytest.mark.parametrize(
    ("job", "active", "queued"),
    [("", "active", False), ("12", "active", True), ("12", "deactivating", True), ("12", "activating", False)],
)
def test_a_unit_whose_job_has_not_begun_is_told_from_one_that_starts(job: str, active: str, queued: bool) -> None:
    shown = {
        "LoadState": "loaded",
        "ActiveState": active,
        "SubState": "x",
        "Result": "success",
        "FragmentPath": "",
        "DropInPaths": "",
    }
    assert units._state({**shown, **({"Job": job} if job else {})}, 0.0)["queued"] is queued


@pytest.mark.parametrize(
    "said",
    [
        "Host key checking is enabled, and SSH reported an unrecognized or mismatching host key.",
        "Data could not be sent to remote host: @@@@\n@ REMOTE HOST IDENTIFICATION HAS CHANGED! @",
        "Failed to connect to the host via ssh: No ED25519 host key is known for 10.0.0.1.",
    ],
)
def test_a_host_with_another_key_is_told_from_one_that_is_away(said: str) -> None:
    assert "another SSH host key" in fitness.unanswered(said)
    assert fitness.unanswered("Connection timed out\nmore") == "does not answer on SSH: Connection timed out"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clock_skew_s": 42.0}, r"clock is \+42 s off"),
        ({"clock_skew_s": -42.0}, r"clock is -42 s off"),
        ({"machine": {"free_mb": {"/opt": 5000, "/var": 7, "/tmp": 5000}}}, "7 MiB are free on /var, 100 are needed"),
        ({"machine": {"memory_mb": 256}}, "256 MiB of memory, 500 are needed"),
        ({"machine": {"python": "3.9.2"}}, "Python is 3.9.2"),
        ({"machine": {"python": "3.1.1"}}, "Python is 3.1.1"),
        ({"machine": {"architecture": "armv7l"}}, "armv7l"),
        ({"machine": {"systemd": False}}, "systemd does not run"),
        ({"commands": {"nft": None}}, "nft is missing"),
    ],
)
def test_what_makes_a_host_unfit_is_named_with_what_is_needed(changes: dict[str, Any], said: str) -> None:
    (problem,) = fitness.problems(facts(**changes), NEED)

    assert re.search(said, problem)


def test_a_slow_answer_is_no_wrong_clock() -> None:
    assert fitness.problems(facts(clock_skew_s=7.0, clock_uncertainty_s=4.0), NEED) == []


def test_a_host_without_python_is_told_from_what_its_shell_said() -> None:
    assert "no Python 3" in fitness.unreadable({"module_stderr": "/bin/sh: 1: /usr/bin/python3: not found", "rc": 127})


@pytest.mark.parametrize(
    "said",
    [
        "OSError: [Errno 28] No space left on device",
        "FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', '/root']",
    ],
)
def test_a_full_disk_is_told_from_what_python_said_on_it(said: str) -> None:
    told = {"module_stderr": f'File "/usr/lib/python3.11/tempfile.py", line 362\n{said}', "rc": 1}
    assert fitness.unreadable(told) == "has a full disk: nothing can be written there"


@pytest.mark.parametrize(
    ("unfit", "stops", "goes_on", "said"),
    [
        ({}, True, True, "every host is fit"),
        ({"edge-01": ["a"]}, True, False, "nothing was changed on any host\nedge-01: a"),
        ({"edge-01": ["a"]}, False, True, "going on without\nedge-01: a"),
        ({"edge-01": ["a"], "edge-02": ["b"]}, False, False, "1 devices are left, a round needs 2"),
        ({"coordinator": ["a"]}, False, False, "the coordinator among them"),
    ],
)
def test_the_verdict_is_the_sites(unfit: dict[str, list[str]], stops: bool, goes_on: bool, said: str) -> None:
    verdict = fitness.verdict(unfit, stops=stops, coordinator="coordinator", devices=3, quorum=2)

    assert verdict[0] is goes_on
    assert said in verdict[1]


def test_a_host_that_watches_is_missed_by_no_round() -> None:
    def verdict(unfit: dict[str, list[str]], *, stops: bool = False) -> tuple[bool, str]:
        return fitness.verdict(unfit, stops=stops, coordinator="coordinator", devices=2, quorum=2, watchers=["watch"])

    assert verdict({"watch": ["a"]}) == (True, "1 host is not fit; going on without\nwatch: a")
    assert verdict({"watch": ["a"]}, stops=True)[0] is False
    assert "1 devices are left, a round needs 2" in verdict({"watch": ["a"], "edge-01": ["b"]})[1]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}]\n")
    return load(tmp_path)


@pytest.fixture
def authority(site: Site) -> Authority:
    return Authority.open(site.state, site=site)


class Machine:
    """A device with a key of its own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        public = self.key.public_key()
        self.public = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-01")])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, hashes.SHA256())
        self.request = request.public_bytes(serialization.Encoding.PEM)


def why(chain: str, public: str, authority: Authority, **changes: Any) -> str:
    asked = {"subject": ("edge-01", "device", "clinic"), "names": ["edge-01", "10.77.0.11"], "now": datetime.now(UTC), **changes}
    return renewal.why_renew(chain, public, issuers=authority.issuers(), **asked)


def test_a_certificate_that_serves_is_left_alone_and_every_other_is_renewed_for_a_named_reason(authority: Authority) -> None:
    device, other = Machine(), Machine()
    chain = authority.sign_csr(device.request, name="edge-01", role="device", addresses=["10.77.0.11"]).chain.decode()
    now = datetime.now(UTC)

    assert why(chain, device.public, authority) == ""
    assert why("", device.public, authority) == "it has none"
    assert why("broken", device.public, authority) == "it has none"
    assert why(chain, other.public, authority) == "it does not fit the host's key"
    assert why(chain, "", authority) == "the host's key is gone"
    assert why(chain, device.public, authority, subject=("edge-01", "operator", "clinic")) == "it is in another name"
    assert why(chain, device.public, authority, names=["edge-01", "10.77.0.99"]) == "it carries other names or addresses"
    assert why(chain, device.public, authority, now=now + timedelta(hours=15)) == ""
    assert why(chain, device.public, authority, now=now + timedelta(hours=17)) == "it expires soon"
    assert why(chain, device.public, authority, now=now + timedelta(hours=25)) == "it has expired"


def test_a_certificate_of_another_authority_is_renewed(authority: Authority, site: Site, tmp_path: Path) -> None:
    device = Machine()
    stranger = Authority.open(tmp_path / "elsewhere", site=site)
    chain = stranger.sign_csr(device.request, name="edge-01", role="device", addresses=["10.77.0.11"]).chain.decode()

    assert why(chain, device.public, authority) == "it is from another authority"


def test_revocation_lists_differ_by_what_they_revoke_and_not_by_when_they_were_made(authority: Authority) -> None:
    before = authority.crl().decode()
    again = authority.crl().decode()
    issued = authority.sign_csr(Machine().request, name="edge-01", role="device", addresses=["10.77.0.11"])
    authority.revoke(issued.serial, "lost")
    after = authority.crl().decode()

    assert not renewal.lists_differ(before, again, datetime.now(UTC))
    assert renewal.lists_differ(before, after, datetime.now(UTC))
    assert renewal.lists_differ("", after, datetime.now(UTC))
    assert [int(serial, 16) for serial in renewal.revoked_serials(after)] == [int(issued.serial, 16)]
    assert renewal.serial(issued.chain.decode()) == issued.serial


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"message": "the gate does not answer", "ecs.version": "9.3.0"}', "the gate does not answer"),
        ("Main process exited", "Main process exited"),
        ('["message"]', '["message"]'),
        ('{"message": 1}', '{"message": 1}'),
    ],
)
def test_a_units_last_words_are_words_where_it_wrote_fields(line: str, words: str) -> None:
    assert units.text(line) == words
