"""Quarantine and release: in which order, what is left when something does not answer, and what a second time does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefl.errors import EdgeflError, Locked
from edgefl.events.schema import (
    Body,
    CertificateIssued,
    CertificateRevoked,
    DeviceJudged,
    DeviceState,
    Event,
    OperatorAction,
    RunStarted,
)
from edgefl.fleet.hosts import HostUnknown
from edgefl.fleet.ssh import DeviceUnreachable
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.errors import MonitorUnreachable
from edgefl.monitor.past import Past
from edgefl.monitor.state import FederationState
from edgefl.operations import reporting
from edgefl.operations.interruption import RunGoing
from edgefl.operations.lock import site_lock
from edgefl.operations.quarantine import keep_apart, quarantine, release
from edgefl.operations.revoke import revoke
from edgefl.operations.state import inventory_file, kept_out
from edgefl.operations.verify import verify
from edgefl.pki.authority import Authority
from edgefl.pki.errors import PkiError
from edgefl.pki.operator import ensure_operator, operator_name
from edgefl.progress import Failed, Finished, Progress, Step, Warned
from edgefl.site.model import Site

DEVICES = ["edge-01", "edge-02", "edge-03", "edge-04"]


class Fleet:
    """A provisioned site whose hosts and monitor keep what they are told; everything between them is the real thing.

    away: hosts, or `monitor`, that do not answer. calls: what was asked of whom, in order. walls, ids: of each device.
    renewing: what the coordinator signs just before it hears of anything. would: its services that a converge would start anew.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = Site.model_validate({"name": "clinic", "devices": [{"name": name} for name in DEVICES]}).at(directory)
        self.authority = Authority.open(self.site.state, site=self.site)
        hosts = [Host("coordinator", "coordinator", "10.77.0.10", 22, "root")]
        hosts += [Host(name, "device", f"10.77.0.{11 + place}", 22, "root") for place, name in enumerate(DEVICES)]
        self.inventory = Inventory(tuple(hosts))
        self.inventory.save(inventory_file(self.site))
        self.away: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.walls = dict.fromkeys(DEVICES, "as the site says")
        self.ids: dict[str, str] = {}
        self.events: list[Body] = []
        self.renewing: list[Body] = []
        self.would: list[str] = []
        for name in DEVICES:
            self.enrol(name)
        monkeypatch.setattr("edgefl.fleet.gate.ask", self.ask)
        monkeypatch.setattr("edgefl.fleet.cutoff.ask", self.ask)
        monkeypatch.setattr("edgefl.fleet.ansible.converge", self.converge)
        monkeypatch.setattr("edgefl.fleet.bundle.Bundle.load", lambda _: None)
        monkeypatch.setattr("edgefl.fleet.proof.verify", self.prove)
        for module in ("reporting", "quarantine", "renewals", "interruption"):
            monkeypatch.setattr(f"edgefl.operations.{module}.watching", self.watching)

    def enrol(self, name: str) -> None:
        for role in ("device", "signer"):
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
            pem = request.public_bytes(serialization.Encoding.PEM)
            issued = self.authority.sign_csr(pem, name=name, role=role)  # type: ignore[arg-type]
            if role == "device":
                self.ids[name] = issued.serial

    async def ask(self, host: Host, name: str, said: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        self.calls.append((host.name, said.get("step", name)))
        if host.name in self.away:
            raise DeviceUnreachable(host, "no answer")
        if name == "gate":
            before = len(self.refused)
            self.refused = set(said["serials"])
            return {"live": True, "ended": len(self.refused) - before}
        if name == "renounce":
            return {"gone": [self.ids.pop(host.name)] if host.name in self.ids else []}
        if said["step"] == "keep":
            return {}
        changed = self.walls[host.name] != said["ruleset"]
        self.walls[host.name] = said["ruleset"]
        return {"changed": changed, "unconfirmed": changed, "bare": False}

    async def converge(
        self, site: Site, inventory: Inventory, package: object, *, limit: Sequence[str], check: bool = False
    ) -> AsyncIterator[Progress]:
        if check:
            yield Step("configuration", "coordinator", "would change", changed=True, detail={"restarted": self.would})
            return
        self.calls.append((" ".join(limit), "converge"))
        for name in limit:
            if name in self.away:
                raise EdgeflError(f"{name} does not answer")
            if name in DEVICES:
                if name not in self.ids:
                    self.enrol(name)
                self.walls[name] = "as the site says"
        yield Finished("configuration", "", "converged", changed=True)

    async def prove(self, site: Site, inventory: Inventory, limit: Sequence[str]) -> AsyncIterator[Progress]:
        self.calls.append((" ".join(limit), "prove"))
        assert all(self.walls[name] == "as the site says" for name in limit if name in DEVICES)
        yield Finished("proof", "", "proven")

    @property
    def state(self) -> FederationState:
        state = FederationState.enrolled("clinic", DEVICES)
        for seq, body in enumerate(self.events, start=1):
            event = Event(seq=seq, at=datetime.now(UTC), run="4", round=0, version=1, body=body, previous="", hash="")
            state = state.apply(event)
        return state

    @asynccontextmanager
    async def watching(self, _: Site, **how: Any) -> AsyncIterator[Fleet]:
        if "monitor" in self.away:
            raise MonitorUnreachable("the coordinator does not answer")
        yield self

    async def status(self, *, updates: bool = True) -> SimpleNamespace:
        return SimpleNamespace(state=self.state)

    async def past(self, kinds: Sequence[str], *, before: int = 0) -> Past:
        events = [
            Event(seq=seq, at=datetime.now(UTC), run="", round=0, version=1, body=body, previous="", hash="")
            for seq, body in enumerate(self.events, start=1)
            if getattr(body, "type", "") in kinds and (not before or seq < before)
        ]
        return Past(events=tuple(events[::-1]))

    async def append(self, *bodies: Body) -> int:
        self.calls.append(("monitor", "append"))
        self.events += [*self.renewing, *bodies]
        self.renewing.clear()
        return len(self.events)

    def said(self, kind: type[Body]) -> list[Any]:
        return [body for body in self.events if isinstance(body, kind)]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(tmp_path, monkeypatch)


async def through(events: AsyncIterator[Progress]) -> list[Progress]:
    return [event async for event in events]


async def heard(events: AsyncIterator[Progress], seen: list[Progress]) -> None:
    """As `through`, keeping what came before an error."""
    async for event in events:
        seen.append(event)  # noqa: PERF401


async def test_the_gate_comes_first_then_the_run_then_the_devices_own_wall(fleet: Fleet) -> None:
    serial = fleet.ids["edge-03"]
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    order = [("coordinator", "gate"), ("monitor", "append"), ("edge-03", "cut"), ("edge-03", "keep")]
    assert fleet.calls == order, "the wall is confirmed by a connection that it let in"
    assert serial.upper() in {each.lstrip("0") for each in fleet.refused} | fleet.refused
    assert len(fleet.refused) == 2, "what it signs to others with is refused too"
    assert "policy drop" in fleet.walls["edge-03"]
    assert fleet.walls["edge-02"] == "as the site says"
    row = fleet.state.devices["edge-03"]
    assert (row.state, row.detail) == ("quarantined", "stolen")
    [action] = fleet.said(OperatorAction)
    assert (action.action, action.subject, action.why) == ("quarantine", "edge-03", "stolen")
    assert list(kept_out(fleet.site)) == ["edge-03"]


def renewed(name: str, serial: str) -> CertificateIssued:
    now = datetime.now(UTC)
    return CertificateIssued(
        subject=name, role="device", serial=serial, not_before=now, not_after=now + timedelta(hours=24), issuer="renewal"
    )


async def test_what_a_device_renewed_itself_is_refused_too_even_in_the_last_moment(fleet: Fleet) -> None:
    fleet.events.append(renewed("edge-03", "abcd01"))
    fleet.renewing.append(renewed("edge-03", "abcd02"))
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    assert {"ABCD01", "ABCD02"} <= fleet.refused
    assert "edge-03" in kept_out(fleet.site)


async def test_a_second_time_it_changes_nothing(fleet: Fleet) -> None:
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    told = len(fleet.events)
    again = await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    assert [event for event in again if isinstance(event, Step | Finished) and event.changed] == []
    assert len(fleet.events) == told


async def test_a_device_that_is_off_is_cut_off_by_the_gate_and_by_itself_with_the_next_up(fleet: Fleet) -> None:
    fleet.away.add("edge-03")
    seen = await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    [warning] = [event for event in seen if isinstance(event, Warned)]
    assert (warning.subject, "next up" in warning.what) == ("edge-03", True)
    assert fleet.state.devices["edge-03"].state == "quarantined"
    fleet.away.clear()
    out = [fleet.inventory.host(name) for name in kept_out(fleet.site)]
    await through(keep_apart(fleet.site, out))
    assert "policy drop" in fleet.walls["edge-03"]


async def test_without_the_coordinator_the_device_is_cut_off_all_the_same_and_the_error_says_what_is_missing(
    fleet: Fleet,
) -> None:
    fleet.away |= {"coordinator", "monitor"}
    seen: list[Progress] = []
    with pytest.raises(DeviceUnreachable):
        await heard(quarantine(fleet.site, ["edge-03"], why="stolen"), seen)
    assert [type(event) for event in seen if isinstance(event, Failed | Warned)] == [Warned, Failed, Warned]
    assert "policy drop" in fleet.walls["edge-03"]
    fleet.away.clear()
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    assert len(fleet.refused) == 2
    assert fleet.state.devices["edge-03"].state == "quarantined"


async def test_too_few_devices_for_a_round_are_said(fleet: Fleet) -> None:
    assert fleet.site.quorum == 3
    seen = await through(quarantine(fleet.site, ["edge-02", "edge-03"], why="stolen"))
    assert "2 of 4 devices are left, and a round needs 3" in [event for event in seen if isinstance(event, Warned)][-1].what


async def test_nobody_but_a_device_is_put_in_quarantine_and_an_unknown_one_changes_nothing(fleet: Fleet) -> None:
    for names, error in ((["edge-33"], HostUnknown), (["coordinator"], HostUnknown), (["edge-02", "nowhere"], HostUnknown)):
        with pytest.raises(error):
            await through(quarantine(fleet.site, names, why="stolen"))
    assert fleet.calls == []
    assert kept_out(fleet.site) == {}


async def test_it_waits_for_nobody_who_holds_the_site(fleet: Fleet) -> None:
    with site_lock(fleet.site, "up"), pytest.raises(Locked):
        await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    assert fleet.calls == []


async def test_a_release_makes_a_new_identity_and_is_told_when_isolation_is_proven(fleet: Fleet) -> None:
    before = fleet.ids["edge-03"]
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    fleet.calls.clear()
    await through(release(fleet.site, ["edge-03"], why="found again"))
    assert fleet.calls == [
        ("edge-03", "renounce"),
        ("coordinator edge-03", "converge"),
        ("edge-03", "prove"),
        ("monitor", "append"),
    ]
    assert fleet.ids["edge-03"] != before
    assert kept_out(fleet.site) == {}
    assert fleet.walls["edge-03"] == "as the site says"
    assert fleet.state.devices["edge-03"].state == "enrolled"
    assert fleet.ids["edge-03"] in [body.serial for body in fleet.said(CertificateIssued)]
    assert [body.action for body in fleet.said(OperatorAction)] == ["quarantine", "release"]
    await through(quarantine(fleet.site, ["edge-02"], why="lost"))
    assert len(fleet.refused) == 4, "what was revoked once stays so"


async def test_a_release_that_was_cut_short_goes_on_with_the_keys_that_it_made(fleet: Fleet) -> None:
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    going = release(fleet.site, ["edge-03"], why="found again")
    async for event in going:
        if event.stage == "configuration":
            break
    with suppress(RuntimeError):
        await going.aclose()  # type: ignore[attr-defined]
    made = fleet.ids["edge-03"]
    assert fleet.state.devices["edge-03"].state == "quarantined", "no round asks it before it is proven"
    fleet.calls.clear()
    await through(release(fleet.site, ["edge-03"], why="found again"))
    assert fleet.calls[0] == ("coordinator edge-03", "converge")
    assert fleet.ids["edge-03"] == made
    assert fleet.state.devices["edge-03"].state == "enrolled"


async def test_a_release_takes_back_whom_the_policy_alone_set_aside_without_touching_the_device(fleet: Fleet) -> None:
    judged = DeviceJudged(device="edge-02", before="suspect", conduct="quarantined", reason="copies", rounds_out=20)
    fleet.events.append(judged)
    await through(release(fleet.site, ["edge-02"], why="its records were checked"))
    assert fleet.calls == [("monitor", "append")]
    assert fleet.state.devices["edge-02"].state == "enrolled"
    assert fleet.said(DeviceState)[-1].state == "enrolled"


async def test_a_revoked_device_is_in_quarantine_and_a_revoked_operator_is_not_this_one_any_more(fleet: Fleet) -> None:
    fleet.events += [CertificateIssued(subject="edge-01", role="device", serial=fleet.ids["edge-01"],
                                       not_before=datetime.now(UTC), not_after=datetime.now(UTC))]  # fmt: skip
    await through(revoke(fleet.site, "edge-01", why="its key was copied"))
    assert list(kept_out(fleet.site)) == ["edge-01"]
    assert [body.subject for body in fleet.said(CertificateRevoked)] == ["edge-01"]
    assert [body.action for body in fleet.said(OperatorAction)] == ["revoke"]
    own = ensure_operator(fleet.site)
    key = (own / "operator.key").read_bytes()
    await through(revoke(fleet.site, operator_name(), why="this laptop was lost"))
    ensure_operator(fleet.site)
    assert (own / "operator.key").read_bytes() != key


@pytest.mark.parametrize("name", ["coordinator", "nobody"])
async def test_what_cannot_be_revoked_is_said_and_nothing_is(fleet: Fleet, name: str) -> None:
    with pytest.raises(PkiError, match=name):
        await through(revoke(fleet.site, name, why="no"))
    assert [entry for entry in fleet.authority.certificates() if entry.is_revoked] == []


async def test_a_proof_passes_over_whoever_is_in_quarantine(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    fleet.calls.clear()
    seen = await through(verify(fleet.site, fleet.inventory))
    assert fleet.calls == [("coordinator edge-01 edge-02 edge-04", "prove")]
    assert [event.subject for event in seen if isinstance(event, Warned)] == ["edge-03"]


def test_what_the_monitor_was_not_told_the_next_up_tells(fleet: Fleet) -> None:
    fleet.authority.revoke(fleet.ids["edge-04"], "stolen")
    told = list(reporting.standings(fleet.site, fleet.state))
    assert told == [DeviceState(device="edge-04", state="quarantined", detail="stolen")]
    fleet.events += told
    assert list(reporting.standings(fleet.site, fleet.state)) == []
    fleet.enrol("edge-04")
    [back] = reporting.standings(fleet.site, fleet.state)
    assert (back.device, back.state) == ("edge-04", "enrolled")  # type: ignore[attr-defined]


async def test_a_release_does_not_end_the_run_that_is_going(fleet: Fleet) -> None:
    await through(quarantine(fleet.site, ["edge-03"], why="stolen"))
    started = RunStarted(site="clinic", site_hash="", task="t", rounds=3, devices=DEVICES, quorum=2, rule="mean")
    fleet.events.append(started)
    fleet.would = ["edgefl-superlink"]
    fleet.calls.clear()
    with pytest.raises(RunGoing, match="edgefl-superlink starts anew"):
        await through(release(fleet.site, ["edge-03"], why="found again"))
    assert fleet.calls == []
    assert set(kept_out(fleet.site)) == {"edge-03"}
    fleet.would = ["edgefl-monitor"]
    await through(release(fleet.site, ["edge-03"], why="found again"))
    assert kept_out(fleet.site) == {}
