"""A wall that was changed: a device's word through the real gate, what the monitor makes of it, and what it does not take."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.events.drift import IsolationDrift
from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceState, IsolationProven
from edgefl.federation.drift import deliver, say_alive, to_gate
from edgefl.monitor import drift
from edgefl.monitor.health import concerns
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status
from edgefl.monitor.tail import Tail

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


def test_a_watcher_that_lives_is_heard_through_the_gate_and_the_journal_is_not_filled_with_it(
    gate, identities, journal, tmp_path
):
    post, before = post_as(identities, gate), journal.head()
    assert say_alive(tmp_path, post, 0.0) == 0.0, "there is no watcher: there is nothing to say"
    sign = tmp_path / "alive"
    sign.touch()
    os.utime(sign, (5000.0, 5000.0))
    assert say_alive(tmp_path, post, 0.0) == 5000.0
    assert say_alive(tmp_path, lambda _: pytest.fail("it has not looked again"), 5000.0) == 5000.0
    os.utime(sign, (5040.0, 5040.0))
    assert say_alive(tmp_path, post, 5000.0) == 5040.0
    assert say_alive(tmp_path, post_as(identities, "127.0.0.254"), 4000.0) == 4000.0, "nobody has heard it"
    assert journal.head() == before


async def test_a_watcher_that_falls_silent_is_told_once_and_again_where_it_still_is_after_a_proof(tmp_path: Path):
    now = [1000.0]
    watchers = drift.Watchers(lambda: now[0])
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "alive").touch()
    state = FederationState.enrolled("clinic", ["edge-01", "edge-02", "edge-03"])
    with Journal(tmp_path / "journal.db") as journal:
        tail = Tail(journal, state)
        for device, word in (("edge-01", "online"), ("edge-02", "online"), ("edge-03", "offline")):
            journal.append(DeviceState(device=device, state=word))
        follows = asyncio.create_task(drift.follow(spool, tail, "coordinator", watchers))

        async def later(seconds: float, *heard: str) -> list[tuple[str, bool]]:
            """What the journal has of silence once the follower has looked twice more; `heard` say that they live."""
            now[0] += seconds
            for host in heard:
                watchers.hear(host)
            for _ in range(2):
                looked.clear()
                await asyncio.wait_for(looked.wait(), 60)
            return [(body.device, body.healed) for body in drifts(journal) if body.found == [drift.SILENT]]

        looked, real = asyncio.Event(), watchers.silent
        watchers.silent = lambda there: (looked.set(), real(there))[1]
        try:
            drift.LOOK_S, pace = 0.01, drift.LOOK_S
            assert await later(0) == []
            assert await later(drift.SILENT_S - 1, "edge-01", "coordinator") == []
            assert await later(2, "coordinator") == [("edge-02", False)], "who is offline has nobody to bring its word"
            assert await later(60, "edge-01", "coordinator") == [("edge-02", False)], "once"
            (concern,) = [
                one for one in concerns(Status(state=tail.state, now=datetime.now(UTC), quorum=1)) if "silent" in one.what
            ]
            assert (concern.subject, concern.hint) == ("edge-02", "edgefl up")
            proof = IsolationProven(device="edge-02", probes=9, open_forbidden=[], closed_required=[], proof_sha256="a")
            journal.append(proof)
            assert await later(1, "edge-01", "coordinator") == [("edge-02", False)] * 2, "it was proven, and is silent still"
            journal.append(proof)
            assert await later(1, "edge-01", "edge-02", "coordinator") == [("edge-02", False)] * 2, "it is heard again"
            (spool / "alive").touch()
            assert await later(drift.SILENT_S - 1, "edge-01", "edge-02") == [("edge-02", False)] * 2
            os.utime(spool / "alive", (1.0, 1.0))
            assert await later(0) == [("edge-02", False)] * 2, "the coordinator's own has looked just now"
            found = await later(drift.SILENT_S, "edge-01", "edge-02")
            assert found[2:] == [("coordinator", False)]
        finally:
            drift.LOOK_S = pace
            follows.cancel()
            await asyncio.gather(follows, return_exceptions=True)


async def test_a_coordinator_on_no_host_of_edgefls_making_misses_nobody(tmp_path: Path):
    with Journal(tmp_path / "journal.db") as journal:
        tail = Tail(journal, FederationState.enrolled("clinic", ["edge-01"]))
        await asyncio.wait_for(drift.follow(tmp_path / "spool", tail, "coordinator", drift.Watchers()), 60)


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
