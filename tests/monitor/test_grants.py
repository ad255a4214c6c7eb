"""Tokens by the coordinator's clock and by its journal alone; what the journal gets of refusals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgefl.events.journal import Journal
from edgefl.events.schema import EnrolmentOpened, EnrolmentRefused, EnrolmentUsed
from edgefl.federation.hostconfig import HostConfig
from edgefl.monitor.enrolments import MOST_REFUSALS_AN_HOUR, EnrolmentDenied, Enrolments
from edgefl.monitor.state import FederationState
from edgefl.monitor.tail import Tail
from edgefl.pki import forms, tokens
from edgefl.pki.authority import Authority
from edgefl.pki.profiles import USAGES, profiles
from edgefl.site.model import Site

from .certified import csr, made, private
from .conftest import DEVICES, host_json

FROM = "10.77.0.11"


class Coordinator:
    """Its journal, its renewal authority and a clock of its own."""

    def __init__(self, directory: Path, journal: Journal) -> None:
        site = Site.model_validate({"name": "clinic", "devices": [{"name": name} for name in DEVICES]})
        authority = Authority.open(directory / "operator", site=site)
        key = made()
        (directory / "renewal.key").write_bytes(private(key))
        (directory / "renewal.crt").write_bytes(authority.sign_renewal(csr("coordinator", key).encode(), name="coordinator"))
        (directory / "ca.crt").write_bytes(authority.bundle())
        self.directory, self.journal, self.late = directory, journal, timedelta()
        self.enrolments = self.begun()

    def begun(self) -> Enrolments:
        """The service as it starts, with nothing in its memory."""
        host = HostConfig.load(host_json(self.directory))
        tail = Tail(self.journal, FederationState.enrolled("clinic", DEVICES))
        anchors = self.directory / "ca.crt"
        return Enrolments(host, tail, self.directory, anchors, now=lambda: datetime.now(UTC) + self.late)

    def open(self, name: str, *, hours: int = 24) -> str:
        token = tokens.make()
        digest = tokens.digest(token)
        self.journal.append(EnrolmentOpened(subject=name, addresses=[FROM], token_sha256=digest, valid_s=60, leaf_hours=hours))
        return token

    def refusals(self) -> list[EnrolmentRefused]:
        return [event.body for event in self.journal.events() if isinstance(event.body, EnrolmentRefused)]


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    with Journal(tmp_path / "journal.db") as journal:
        yield Coordinator(tmp_path, journal)


async def test_a_token_ends_by_the_coordinators_clock(coordinator: Coordinator) -> None:
    token = coordinator.open("edge-01")
    coordinator.late = timedelta(seconds=61)
    with pytest.raises(EnrolmentDenied, match=r"the token of edge-01 ended at .* UTC") as denied:
        await coordinator.enrolments.enrol(FROM, token, csr("edge-01", made()))
    assert denied.value.hint == "edgefl enrol token edge-01"
    [refused] = coordinator.refusals()
    assert (refused.subject, refused.source) == ("edge-01", FROM)
    coordinator.late = timedelta(seconds=50)
    assert (await coordinator.enrolments.enrol(FROM, token, csr("edge-01", made()))).subject == "edge-01"


async def test_an_answer_is_given_again_by_a_coordinator_that_was_started_anew_but_not_after_the_tokens_end(
    coordinator: Coordinator,
) -> None:
    token, request = coordinator.open("edge-01"), csr("edge-01", made())
    first = await coordinator.enrolments.enrol(FROM, token, request)
    again = coordinator.begun()
    assert await again.enrol(FROM, token, request) == first
    with pytest.raises(EnrolmentDenied, match="was used for another key"):
        await again.enrol(FROM, token, csr("edge-01", made()))
    coordinator.late = timedelta(seconds=61)
    with pytest.raises(EnrolmentDenied, match="ended"):
        await again.enrol(FROM, token, request)
    assert len([event for event in coordinator.journal.events() if isinstance(event.body, EnrolmentUsed)]) == 1


async def test_what_is_certified_is_a_devices_as_the_operators_authority_would_have_it(coordinator: Coordinator) -> None:
    used = await coordinator.enrolments.enrol(FROM, coordinator.open("edge-02", hours=2), csr("edge-02", made()))
    leaf, issuer = x509.load_pem_x509_certificates(used.chain.encode())
    leaf.verify_directly_issued_by(issuer)
    assert leaf.subject == forms.subject("edge-02", "device", "clinic")
    usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    profile = profiles().roles["device"]
    assert usages == [USAGES[usage] for usage in profile.usages] == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert (profile.names, profile.addresses, profile.host_names, profile.curve) == ([], [], True, "secp256r1")
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=2)


async def test_a_host_that_the_authority_may_not_certify_is_refused_before_it_is(coordinator: Coordinator) -> None:
    coordinator.enrolments._host.devices.append("edge-04")  # it joined after the authority was made
    with pytest.raises(EnrolmentDenied, match="no host that this coordinator may certify"):
        await coordinator.enrolments.enrol(FROM, coordinator.open("edge-04"), csr("edge-04", made()))


async def test_the_journal_is_not_filled_by_whoever_guesses(coordinator: Coordinator) -> None:
    name = "edge-01\x1b[2J"
    for _ in range(MOST_REFUSALS_AN_HOUR + 5):
        with pytest.raises(EnrolmentDenied, match="no token that counts"):
            await coordinator.enrolments.enrol(FROM, tokens.make(), csr(name, made()))
    assert len(coordinator.refusals()) == MOST_REFUSALS_AN_HOUR
    assert {body.subject for body in coordinator.refusals()} == {"edge-01·[2J"}
    token = coordinator.open("edge-01")
    assert (await coordinator.enrolments.enrol(FROM, token, csr("edge-01", made()))).subject == "edge-01", "the right one counts"
    coordinator.late = timedelta(hours=2)
    with pytest.raises(EnrolmentDenied):
        await coordinator.enrolments.enrol(FROM, tokens.make(), csr(name, made()))
    assert len(coordinator.refusals()) == MOST_REFUSALS_AN_HOUR + 1
