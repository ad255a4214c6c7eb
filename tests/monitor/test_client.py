from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta

import pytest

from edgefl.errors import ExitCode, NotProvisioned
from edgefl.events.chain import JournalBroken
from edgefl.events.schema import CertificateIssued, DeviceDropped, DeviceFacts, OperatorAction
from edgefl.monitor.client import MonitorClient
from edgefl.monitor.errors import MonitorUnreachable, Refused
from edgefl.monitor.line import HEARTBEAT_S

pytestmark = pytest.mark.slow


@pytest.fixture
async def monitor(state_dir, inventory, gate):
    async with MonitorClient.open(state_dir, inventory) as monitor:
        yield monitor


def dropped(device: str = "edge-01") -> DeviceDropped:
    return DeviceDropped(device=device, reason="deadline")


async def test_an_operator_sees_the_state_through_the_gate(monitor):
    before = datetime.now(UTC)
    status = await monitor.status()
    assert before <= status.now <= datetime.now(UTC)
    assert list(status.state.devices) == ["edge-01", "edge-02", "edge-03"]
    assert status.quorum == 2
    assert monitor.heard is not None


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("stranger", "does not trust|unknown ca|refused"),
        ("revoked", "revoked"),
        ("device", "does not let"),
        ("scraper", "does not let"),
    ],
)
async def test_who_is_not_a_valid_operator_gets_nothing(as_operator, inventory, gate, who, why):
    state = as_operator(who)
    async with MonitorClient.open(state, inventory) as monitor:
        with pytest.raises((MonitorUnreachable, Refused), match=why):
            await monitor.status()


async def test_a_scraper_gets_the_metrics(as_operator, inventory, gate):
    state = as_operator("scraper")
    async with MonitorClient.open(state, inventory) as monitor:
        assert 'fl_device_online{device="edge-01"} 0.0' in await monitor.metrics()


async def test_a_name_and_role_that_the_client_claims_count_for_nothing(as_operator, inventory, gate, journal):
    claims = {"X-Edgefl-Name": "alice@desk", "X-Edgefl-Role": "operator"}
    async with MonitorClient.open(as_operator("scraper"), inventory) as monitor:
        assert (await monitor._http.get("/v1/status", headers=claims)).status_code == 403
    async with MonitorClient.open(as_operator("operator"), inventory) as monitor:
        said = OperatorAction(who="", action="look").model_dump(mode="json")
        answer = await monitor._http.post("/v1/actions", json=said, headers={"X-Edgefl-Name": "mallory"})
        assert answer.status_code == 201
    assert list(journal.events())[-1].body.who == "alice@desk"


async def test_a_coordinator_with_another_name_is_not_believed(state_dir, inventory, gate):
    from dataclasses import replace

    impostor = replace(inventory, hosts=(replace(inventory.coordinator, name="elsewhere"),))
    async with MonitorClient.open(state_dir, impostor) as monitor:
        with pytest.raises(MonitorUnreachable, match="not the coordinator's"):
            await monitor.status()


async def test_a_coordinator_that_is_away_is_said_with_what_to_do(state_dir, inventory):
    async with MonitorClient.open(state_dir, inventory, port=1) as monitor:
        with pytest.raises(MonitorUnreachable, match="Connection refused") as error:
            await monitor.status()
    assert error.value.exit_code == ExitCode.MONITOR_UNREACHABLE
    assert error.value.hint == "edgefl doctor coordinator"


async def test_an_operator_without_a_certificate_is_told_to_provision(tmp_path, inventory, gate):
    async with MonitorClient.open(tmp_path / "none", inventory) as monitor:
        with pytest.raises(NotProvisioned):
            await monitor.status()


async def test_the_service_behind_the_gate_may_be_away(monitor, service):
    service.end()
    try:
        with pytest.raises(MonitorUnreachable, match="behind it does not answer"):
            await monitor.status()
    finally:
        service.start()


async def test_what_operators_do_is_written_with_their_certificates_name(monitor, journal):
    now = datetime.now(UTC)
    facts = DeviceFacts(device="edge-01", architecture="x86_64", cores=0.5, memory_mb=1024, address="10.77.0.11")
    issued = CertificateIssued(subject="edge-01", role="device", serial="ab", not_before=now, not_after=now + timedelta(hours=24))
    action = OperatorAction(who="somebody else", action="quarantine", subject="edge-01", why="odd updates")
    last = await monitor.append(facts, issued, action)
    events = list(journal.events())
    assert last == events[-1].seq
    assert [event.body for event in events[-3:]] == [facts, issued, action.model_copy(update={"who": "alice@desk"})]
    status = await monitor.status()
    assert status.state.devices["edge-01"].certificate.serial == "ab", "what was written is in the next answer"
    assert status.state.devices["edge-01"].cores == 0.5


async def test_an_operator_cannot_write_what_only_a_run_knows(monitor, journal):
    before = journal.head()
    with pytest.raises(Refused, match="does not write device_dropped"):
        await monitor.append(OperatorAction(who="", action="x"), dropped())
    assert journal.head() == before


async def test_events_are_followed_as_they_are_written(monitor, journal):
    after = journal.head().seq
    journal.append_all([dropped()] * 1100)
    seen, lags_s = [], []
    async for event in monitor.events(after):
        seen.append(event.seq - after)
        if len(seen) > 1100:
            lags_s.append((datetime.now(UTC) - event.at).total_seconds())
        if len(seen) == 1103:
            break
        if len(seen) >= 1100:
            await asyncio.to_thread(journal.append, dropped("edge-02"))
    assert seen == list(range(1, 1104))
    assert sorted(lags_s)[1] < HEARTBEAT_S / 2, "by themselves and not with a heartbeat; a busy machine may be late once"


async def test_events_without_following_end_at_the_journals_end(monitor, journal):
    first, *others = journal.append_all([dropped()] * 3)
    assert [event async for event in monitor.events(after=first.seq, follow=False)] == others


async def test_the_past_is_read_back_page_by_page(monitor, journal):
    last = journal.append_all([OperatorAction(who="alice", action="look"), dropped(), OperatorAction(who="bob", action="look")])[
        -1
    ]
    first = await monitor.past(["operator_action"], most=1)
    assert [(event.seq, event.body.who) for event in first.events] == [(last.seq, "bob")]
    second = await monitor.past(["operator_action"], before=first.before, most=1)
    assert [event.body.who for event in second.events] == ["alice"]


async def test_the_whole_chain_is_walked_on_the_operators_machine(monitor, journal):
    shown = journal.append_all([dropped()] * 700)[350]
    walked = [each async for each in monitor.walk({shown.seq: shown.hash})]
    assert len(walked) > 1
    assert (walked[-1].head, walked[-1].last) == (journal.head(), journal.head().seq)
    with pytest.raises(JournalBroken, match="another event") as broken:
        _ = [each async for each in monitor.walk({shown.seq: "f" * 64})]
    assert broken.value.seq == shown.seq


async def test_a_silent_stream_says_that_it_lives(monitor):
    beats = 0
    async for news in monitor.stream():
        beats += news is None
        if beats == 2:
            break
    assert beats == 2


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
async def test_a_stream_goes_on_after_the_service_was_away_without_gap_or_duplicate(monitor, journal, service, kill):
    after, seen, at_ten = journal.head().seq, [], asyncio.Event()

    async def follow() -> None:
        async for event in monitor.events(after, patience_s=60):
            seen.append(event.seq - after)
            if len(seen) == 10:
                at_ten.set()
            if len(seen) == 30:
                return

    following = asyncio.create_task(follow())
    journal.append_all([dropped()] * 10)
    await asyncio.wait_for(at_ten.wait(), 60)
    code = await asyncio.to_thread(service.end, kill=kill)
    assert code == (-9 if kill else 0)
    journal.append_all([dropped()] * 10)  # the run goes on while nobody watches
    await asyncio.to_thread(service.start)
    journal.append_all([dropped()] * 10)
    await asyncio.wait_for(following, 60)
    assert seen == list(range(1, 31))


async def test_a_reader_gives_up_after_its_patience(state_dir, inventory):
    async with MonitorClient.open(state_dir, inventory, port=1) as monitor:
        with pytest.raises(MonitorUnreachable):
            async for _ in monitor.events(patience_s=0.3):
                pass


async def test_a_journal_that_was_replaced_is_not_taken_for_the_same(monitor, journal):
    end = journal.append(dropped()).seq
    with pytest.raises(Refused, match=f"journal ends at {end}") as error:
        async for _ in monitor.events(after=end + 1):
            pass
    assert error.value.exit_code == ExitCode.JOURNAL_BROKEN


async def test_the_dialler_decides_where_the_coordinator_is(state_dir, inventory, gate):
    asked = []

    def dial(host, port, timeout_s):
        asked.append((host.name, port))
        return socket.create_connection((gate, 7444), timeout_s)

    async with MonitorClient.open(state_dir, inventory, dial=dial) as monitor:
        await monitor.status()
        await monitor.status()
    assert asked == [("coordinator", 7444)], "one connection serves several requests"
