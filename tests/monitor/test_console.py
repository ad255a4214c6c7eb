"""The console on a real monitor behind a real gate, which goes away and comes back."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.console import figures, wards
from edgefl.console.app import Console
from edgefl.console.diary import KINDS
from edgefl.console.feed import MonitorFeed, News, SiteFeed
from edgefl.console.live import Link
from edgefl.console.pages.flag import FlagPage
from edgefl.console.provisioning.works import Works
from edgefl.console.screens.reason import Reason
from edgefl.console.views import VIEWS
from edgefl.console.views.audit import Audit
from edgefl.errors import NotProvisioned
from edgefl.events.schema import (
    DeviceState,
    Event,
    FlagRaised,
    OperatorAction,
    RoundFinished,
    RoundStarted,
    RunStarted,
    UpdateReceived,
)
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.client import MonitorClient
from edgefl.monitor.identity import Identity
from edgefl.monitor.state import FederationState
from edgefl.monitor.wire import _Backend
from edgefl.pki.operator import ensure_operator
from edgefl.progress import Finished, Progress
from edgefl.site import load
from edgefl.site.model import Site

from ..console.driving import shown, until
from ..console.driving import steady as steady  # noqa: PLC0414  # every console here is driven so
from ..console.sites import ADOPTED

DEVICES = ["edge-01", "edge-02", "edge-03"]
BEGUN = RunStarted(site="clinic", site_hash="ab", task="t", rounds=20, devices=DEVICES, quorum=2, rule="guard")


def update(device: str, accuracy: float) -> UpdateReceived:
    return UpdateReceived(
        device=device, samples=300, bytes_up=1000, bytes_down=4000, train_s=1.0, transfer_s=0.1, accuracy=accuracy, loss=0.4
    )


def result(accuracy: float) -> RoundFinished:
    return RoundFinished(
        accuracy=accuracy,
        loss=0.4,
        participants=DEVICES,
        dropped=[],
        rejected=[],
        flagged=[],
        bytes_up=3000,
        bytes_down=12000,
        seconds={"train": 1.0},
    )


@pytest.mark.slow
async def test_a_console_lives_through_the_death_of_the_monitor(state_dir, inventory, gate, service, journal):
    journal.append(BEGUN, run="9")
    async with MonitorClient.open(state_dir, inventory) as monitor:
        app = Console(MonitorFeed(monitor), controls=monitor, theme="edgefl-dark")
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "clinic" in shown(app) and "● live" in shown(app))

            journal.append(RoundStarted(devices=DEVICES, deadline_s=60), run="9", round=1)
            journal.append(update("edge-02", 0.4321), run="9", round=1)
            await until(pilot, lambda: "0.43" in shown(app))

            service.end(kill=True)
            try:
                journal.append_all([update("edge-03", 0.8765), result(0.7777)], run="9", round=1)
                await until(pilot, lambda: "◌ stale" in shown(app))
                await pilot.press("2", "1")
                assert "0.43" in shown(app), "what was known stays readable, and the keys work"
            finally:
                service.start()
            await until(pilot, lambda: "● live" in shown(app) and "0.778" in shown(app))
            assert app.frame.link is Link.LIVE
            assert app.frame.state.seq == journal.head().seq
            before = app.frame.state
            assert before.rounds == FederationState.enrolled("clinic", DEVICES).apply_all(journal.events()).rounds


class Heard(MonitorFeed):
    """The monitor's feed, which remembers every event that it hands on."""

    def __init__(self, monitor: MonitorClient) -> None:
        super().__init__(monitor)
        self.seqs: list[int] = []

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        async for news in super().news(after):
            if isinstance(news, Event):
                self.seqs.append(news.seq)
            yield news


class Cable:
    """What a client's bytes go through to the gate, until somebody pulls it: then nothing passes, and nothing says so."""

    def __init__(self, coordinator: Host, state_dir: Path) -> None:
        self._coordinator = coordinator
        self._state_dir = state_dir
        self._ends: list[socket.socket] = []
        self.is_whole = threading.Event()
        self.is_whole.set()

    def client(self) -> MonitorClient:
        return MonitorClient(self._coordinator, Identity(self._state_dir / "operator"), self.dial)

    def dial(self, host: Host, port: int, timeout_s: float) -> socket.socket:
        if not self.is_whole.is_set():
            raise TimeoutError("timed out")
        far = socket.create_connection((host.address, port), timeout_s)
        ours, theirs = socket.socketpair()
        self._ends += [far, theirs]
        threading.Thread(target=self._forward, args=(far, theirs), daemon=True).start()
        return ours

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        while True:
            readable, _, _ = select.select([one, other], [], [])
            self.is_whole.wait()
            for end in readable:
                try:
                    said = end.recv(65536)
                    (other if end is one else one).sendall(said)
                except OSError:
                    said = b""
                if not said:
                    for each in (one, other):
                        each.close()
                    return


@pytest.fixture
def cable(gate: str, inventory: Inventory, state_dir: Path) -> Iterator[Cable]:
    cable = Cable(inventory.coordinator, state_dir)
    yield cable
    cable.is_whole.set()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["frozen", "cut off"])
async def test_a_coordinator_that_says_nothing_is_stale_and_is_resumed_without_gap_or_duplicate(what, service, journal, cable):
    journal.append(BEGUN, run="9")
    began = journal.head().seq
    async with cable.client() as monitor:
        feed = Heard(monitor)
        app = Console(feed, controls=monitor, theme="edgefl-dark")
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "clinic" in shown(app) and "● live" in shown(app))
            journal.append(RoundStarted(devices=DEVICES, deadline_s=60), run="9", round=1)
            journal.append(update("edge-02", 0.4321), run="9", round=1)
            await until(pilot, lambda: "0.43" in shown(app))
            if what == "frozen":
                os.kill(service.process.pid, signal.SIGSTOP)
            else:
                cable.is_whole.clear()
            try:
                journal.append_all([update("edge-03", 0.8765), result(0.6543)], run="9", round=1)
                await until(pilot, lambda: "◌ stale" in shown(app))
                await pilot.press("2", "4", "1", "s")
                assert "0.43" in shown(app), "what was known stays readable, and the keys work"
                assert "0.654" not in shown(app)
            finally:
                os.kill(service.process.pid, signal.SIGCONT)
                cable.is_whole.set()
            journal.append(update("edge-01", 0.5), run="9", round=1)
            head = journal.head().seq
            await until(pilot, lambda: "● live" in shown(app) and app.frame.state.seq == head)
            assert "0.654" in shown(app)
            assert feed.seqs == list(range(began + 1, head + 1))


@pytest.mark.slow
@pytest.mark.usefixtures("service")
async def test_a_connection_that_was_cut_off_can_be_closed_again(cable, state_dir, inventory):
    """As when the console is left: by whoever read from it, which gives up after a second, and then with the client."""
    backend = _Backend(lambda port, within_s: cable.dial(inventory.coordinator, port, within_s), Identity(state_dir / "operator"))
    stream = await backend.connect_tcp("coordinator", layout.API_PORT)
    stream = await stream.start_tls(None, server_hostname=inventory.coordinator.name, timeout=20)
    cable.is_whole.clear()
    await stream.aclose()
    await stream.aclose()


@pytest.mark.slow
@pytest.mark.usefixtures("gate", "service")
async def test_what_one_operator_does_from_a_flag_every_other_open_console_shows(
    state_dir, inventory, journal, tmp_path, monkeypatch
):
    """Quarantine and release, confirmed with a reason on one console; on hosts they are tested elsewhere, here they are told."""
    flag = FlagRaised(device="edge-02", rule="guard", score=9.0, threshold=4.0, peers=[0.1, 0.3], reason="points away")
    journal.append(BEGUN, run="9")
    journal.append(flag, run="9", round=1)

    def telling(deed: str, state: str) -> Callable[..., AsyncIterator[Progress]]:
        async def act(site: Site, devices: Sequence[str], *, why: str) -> AsyncIterator[Progress]:
            journal.append(OperatorAction(who="alice@desk", action=deed, subject=devices[0], why=why))
            journal.append(DeviceState(device=devices[0], state=state, detail=why))
            yield Finished(deed, devices[0], "done", changed=True)

        return act

    acts = {"quarantine": telling("quarantine", "quarantined"), "release": telling("release", "enrolled")}
    monkeypatch.setattr(wards, "ACTS", acts)
    (tmp_path / "site.yaml").write_text(ADOPTED)
    async with MonitorClient.open(state_dir, inventory) as monitor, MonitorClient.open(state_dir, inventory) as elsewhere:
        acting = Console(MonitorFeed(monitor), controls=monitor, works=Works(tmp_path), archive=monitor, theme="edgefl-dark")
        watching = Console(MonitorFeed(elsewhere), archive=elsewhere, theme="edgefl-light")
        async with acting.run_test(size=(120, 40)) as pilot, watching.run_test(size=(80, 24)) as other:
            await until(other, lambda: "● live" in shown(watching) and "⚑ suspect" in shown(watching))
            await until(pilot, lambda: "● live" in shown(acting))
            await pilot.press("4", "enter")
            assert isinstance(acting.stage.top, FlagPage)
            await pilot.press("Q")
            await until(pilot, lambda: isinstance(acting.screen, Reason))
            assert journal.newest(["operator_action"], size=5) == [], "nothing is done before it is confirmed"
            await pilot.press(*"stolen", "enter")
            await until(other, lambda: "⊘ quarantined" in shown(watching))
            await until(pilot, lambda: "⊘ quarantined" in shown(acting) and "R Release" in shown(acting))
            await pilot.press("R")
            await until(pilot, lambda: isinstance(acting.screen, Reason))
            await pilot.press(*"found", "enter")
            await until(other, lambda: "⊘ quarantined" not in shown(watching))
            await other.press("7")
            await until(other, lambda: all(said in shown(watching) for said in ("alice@desk", "stolen", "found")))


@pytest.mark.slow
async def test_the_audit_joins_the_journal_that_was_there_with_what_is_written_now(state_dir, inventory, gate, service, journal):
    looks = [OperatorAction(who="alice@desk", action=f"look {number}") for number in range(250)]
    journal.append_all(looks)
    async with MonitorClient.open(state_dir, inventory) as monitor:
        app = Console(MonitorFeed(monitor), archive=monitor, theme="edgefl-dark")
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "● live" in shown(app))
            await pilot.press(str(VIEWS.index(Audit) + 1))
            await until(pilot, lambda: "look 249" in shown(app))
            journal.append(OperatorAction(who="bob@lab", action="quarantine", subject="edge-02", why="odd updates"))
            await until(pilot, lambda: "odd updates" in shown(app))
            await pilot.press("end")
            await until(pilot, lambda: "all that the journal has" in shown(app))
            listed = [int(key) for key in map(app.query_one(Audit).grid.key_of, app.query_one(Audit).grid.rows)]
            assert listed == [record["seq"] for record in journal.newest(KINDS, size=1000)]
            await pilot.press("V")
            head = journal.head()
            await until(pilot, lambda: f"to {figures.count(head.seq)}, which has the hash {head.hash[:12]}" in shown(app))


@pytest.mark.slow
async def test_a_console_that_waits_goes_live_by_itself_and_acts_once_the_operator_has_an_identity(site, service, journal):
    journal.append(BEGUN, run="9")
    feed = SiteFeed(site)
    app = Console(feed, controls=feed, logs=feed, archive=feed, theme="edgefl-dark", opens="Provision")
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "○ not provisioned" in shown(app))
        with pytest.raises(NotProvisioned):
            await feed.start_run()
        assert "x Stop" not in shown(app)
        await asyncio.to_thread(ensure_operator, load(site))  # as `up` does
        await until(pilot, lambda: "● live" in shown(app) and "run 9" in shown(app) and "x Stop" in shown(app))
        assert app.stage.top.NAME == "Provision", "whoever provisions stays where they are"
        assert app.frame.problem == ""
        await pilot.press(str(VIEWS.index(Audit) + 1))
        grid = app.query_one(Audit).grid
        newest = str(journal.head().seq)
        await until(pilot, lambda: [grid.key_of(row) for row in grid.rows[:1]] == [newest])  # the archive is there, too
