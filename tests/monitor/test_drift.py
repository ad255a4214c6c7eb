"""A wall that was changed: a device's word through the real gate, what the monitor makes of it, and what it does not take."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.events.drift import IsolationDrift
from edgefl.events.journal import Journal
from edgefl.events.schema import IsolationProven
from edgefl.federation.drift import deliver, to_gate
from edgefl.monitor import drift
from edgefl.monitor.health import concerns
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status

GONE = {
    "found": ["the firewall's rules were gone"],
    "healed": True,
    "at": "2026-03-01T12:00:00+00:00",
    "seconds": 0.2,
    "times": 1,
}


def post_as(identities: Path, address: str, who: str = "device"):
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    context.check_hostname = False  # each module's gate has an address of its own, and all have one certificate
    context.load_cert_chain(identities / f"{who}.crt", identities / f"{who}.key")
    return to_gate(address, layout.FLEET_PORT, context)


def drifts(journal: Journal) -> list[IsolationDrift]:
    return [event.body for event in journal.events() if isinstance(event.body, IsolationDrift)]


def test_a_devices_report_comes_through_the_gate_in_its_own_name_and_not_twice_at_once(gate, identities, journal, tmp_path):
    post = post_as(identities, gate)
    (tmp_path / "1.json").write_text(json.dumps({**GONE, "device": "edge-02", "role": "coordinator"}))
    assert deliver(tmp_path, post)
    assert list(tmp_path.glob("*")) == []
    (told,) = drifts(journal)
    assert (told.device, told.role, told.found) == ("edge-01", "device", GONE["found"]), "whose it is, the certificate says"

    (tmp_path / "2.json").write_text(json.dumps(GONE))
    assert not deliver(tmp_path, post), "too soon: it waits"
    assert len(list(tmp_path.glob("*.json"))) == 1
    assert len(drifts(journal)) == 1


@pytest.mark.parametrize(
    ("report", "status"),
    [(b"{}", 400), (b"[]", 400), (b"x", 400), (json.dumps({**GONE, "found": []}).encode(), 400), (b" " * 20000, 413)],
    ids=["nothing", "a list", "no JSON", "found nothing", "too long"],
)
def test_what_is_no_report_is_refused(gate, identities, journal, report, status):
    before = journal.head()
    assert post_as(identities, gate)(report) == status
    assert journal.head() == before


@pytest.mark.parametrize("who", ["operator", "scraper"])
def test_no_other_role_tells_of_walls(gate, identities, who):
    assert post_as(identities, gate, who)(json.dumps(GONE).encode()) == 403


def test_what_the_coordinator_does_not_understand_is_not_sent_again_and_again(tmp_path: Path):
    (tmp_path / "1.json").write_text("{}")
    assert deliver(tmp_path, lambda _: 400)
    assert list(tmp_path.glob("*")) == []


def test_a_coordinator_that_is_away_hears_of_it_later(tmp_path: Path, identities):
    (tmp_path / "1.json").write_text(json.dumps(GONE))
    assert not deliver(tmp_path, post_as(identities, "127.0.0.254"))
    assert (tmp_path / "1.json").exists()


def test_the_coordinators_own_watcher_is_heard_too(tmp_path: Path):
    spool = tmp_path / "spool"
    spool.mkdir()
    for name, text in (("1.json", "damaged"), ("2.json", json.dumps(GONE)), ("3.new", "{")):
        (spool / name).write_text(text)
    with Journal(tmp_path / "journal.db") as journal:
        drift.take(spool, journal, "coordinator")
        (told,) = drifts(journal)
    assert (told.device, told.role) == ("coordinator", "coordinator")
    assert [path.name for path in spool.iterdir()] == ["3.new"]


@pytest.mark.parametrize(("role", "host"), [("device", "edge-01"), ("coordinator", "coordinator")])
def test_changed_walls_need_attention_until_they_are_proven_again(tmp_path: Path, role, host):
    state = FederationState.enrolled("clinic", ["edge-01"])
    proven = IsolationProven(device=host, role=role, probes=9, open_forbidden=[], closed_required=[], proof_sha256="a")
    shaken = IsolationDrift.model_validate({**GONE, "device": host, "role": role})

    def attention() -> list[str]:
        status = Status(state=state, now=datetime.now(UTC), quorum=1)
        return [concern.what for concern in concerns(status) if concern.subject == host and "not come online" not in concern.what]

    def isolation():
        return state.devices[host].isolation if role == "device" else state.proofs[host]

    with Journal(tmp_path / "journal.db") as journal:
        state = state.apply(journal.append(shaken))
        assert isolation().probes == 0
        assert not isolation().holds
        state = state.apply(journal.append(proven))
        assert isolation().holds
        assert attention() == []
        state = FederationState.from_json(state.apply(journal.append(shaken)).to_json())
        assert not isolation().holds
        (what,) = attention()
        assert what == "the firewall's rules were gone (2026-03-01 12:00:00 UTC); it is healed, and not proven since"
        state = state.apply(journal.append(proven))
        assert attention() == []
