"""Pictures of the views as they were accepted; `pytest --snapshot-update` after looking at the new ones."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import cast

import pytest
from textual.pilot import Pilot

from edgefl.console.app import Console
from edgefl.console.archive import Recording
from edgefl.console.feed import News, ReplayFeed
from edgefl.console.live import Link
from edgefl.console.pages.first import FirstRun
from edgefl.console.provisioning.tree import Tree
from edgefl.console.provisioning.works import Works
from edgefl.console.views import VIEWS
from edgefl.console.views.audit import Audit
from edgefl.console.views.logs import Logs
from edgefl.console.widgets.yaml import YamlArea
from edgefl.errors import EdgeflError
from edgefl.events.schema import (
    AuditFinished,
    CertificateRevoked,
    DeviceJudged,
    Event,
    IsolationProven,
    OperatorAction,
    PrivacyRefused,
    RunFinished,
)
from edgefl.monitor.logs import Hearing, Level
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status
from tests.monitor.happened import happened

from .conftest import BEGAN, DEVICES, Recorder, write_recording
from .driving import shown
from .provisioning.conftest import stream_of
from .sites import ADOPTED
from .test_lines import Hosts, line

Compare = Callable[..., bool]


class Recorded:
    """A recording that ends in this state."""

    is_live = False

    def __init__(self, state: FederationState) -> None:
        self._state = state

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        assert self._state.at is not None
        yield Status(state=self._state, now=self._state.at, quorum=7)


async def settled(pilot: Pilot[None]) -> None:
    """Everything has been read and painted."""
    app = pilot.app
    assert isinstance(app, Console)
    while app.frame.link is not Link.OVER:
        await pilot.pause(0.02)
    app.paint()
    await pilot.pause()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["edgefl-dark", "edgefl-light"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize("view", ["fleet", "rounds", "privacy", "security"])
def test_a_view_looks_as_accepted(
    view: str, size: tuple[int, int], theme: str, state: FederationState, snap_compare: Compare
) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press({"fleet": "1", "rounds": "2", "privacy": "3", "security": "4"}[view])
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), theme=theme), terminal_size=size, run_before=act)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["edgefl-dark", "edgefl-light"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
def test_a_rounds_waterfall_looks_as_accepted(size: tuple[int, int], theme: str, snap_compare: Compare) -> None:
    state = FederationState().apply_all(happened())

    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("2", "enter", *(["v"] if size[1] < 40 else []))
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), theme=theme), terminal_size=size, run_before=act)


LEVELS: tuple[Level, ...] = ("info", "info", "warning", "info", "err", "info", "notice")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["edgefl-dark", "edgefl-light"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
def test_logs_look_as_accepted(size: tuple[int, int], theme: str, state: FederationState, snap_compare: Compare) -> None:
    hosts = Hosts("coordinator", *DEVICES)
    for second in range(60):
        text = f"round {second // 10 + 1}: trained on {300 + second} records in {second % 7 + 1}.2 s, sent 1.1 MB"
        hosts.said.put_nowait(line(second, hosts.names[second % 11], text, LEVELS[second % 7]))
    hosts.said.put_nowait(Hearing("edge-09", "edge-09 (10.77.0.19) does not answer on SSH", "edgefl doctor edge-09"))

    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press(str(VIEWS.index(Logs) + 1))
        while "edge-09 (10" not in shown(cast("Console", pilot.app)):
            await pilot.pause(0.02)
        await pilot.press("up", "space", "up")
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), logs=hosts, theme=theme), terminal_size=size, run_before=act)


@pytest.fixture
def audited(events: list[Event], tmp_path: Path) -> Path:
    """The recorded run, and what was done about it."""
    recorder = Recorder()
    recorder.events, recorder.now = list(events), events[-1].at
    for body in (
        DeviceJudged(device="edge-07", before="trusted", conduct="suspect", reason="flagged in 2 of 10 rounds"),
        DeviceJudged(device="edge-07", before="suspect", conduct="quarantined", reason="flagged in 4 of 10 rounds"),
        PrivacyRefused(device="edge-03", spent=7.9, limit=8.0, cost=0.2, reason="the round costs 0.20, and 0.10 is left"),
        OperatorAction(who="alice@desk", action="quarantine", subject="edge-07", why="turns signs since round 3"),
        CertificateRevoked(subject="edge-07", serial="5eed0006", reason="quarantined by alice@desk"),
        IsolationProven(device="edge-05", probes=14, open_forbidden=["edge-06:22"], closed_required=[], proof_sha256="ab"),
        AuditFinished(who="bob@lab", audit="membership", passed=True, says="AUC 0.51 at epsilon 4", at=events[-1].at),
    ):
        recorder.say(body, after_s=40)
    recorder.run("4")
    recorder.say(RunFinished(status="stopped", reason="asked by alice@desk"), after_s=3)
    return write_recording(recorder.events, tmp_path / "run.ndjson")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["edgefl-dark", "edgefl-light"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
def test_the_audit_looks_as_accepted(size: tuple[int, int], theme: str, audited: Path, snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press(str(VIEWS.index(Audit) + 1), "V")
        while "the chain holds" not in shown(cast("Console", pilot.app)):
            await pilot.pause(0.02)
        await settled(pilot)

    console = Console(ReplayFeed(audited), archive=Recording(audited), theme=theme)
    assert snap_compare(console, terminal_size=size, run_before=act)


@pytest.mark.slow
def test_an_event_whole_looks_as_accepted(audited: Path, snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press(str(VIEWS.index(Audit) + 1))
        await settled(pilot)
        await pilot.press("down", "down", "enter")
        await settled(pilot)

    console = Console(ReplayFeed(audited), archive=Recording(audited), theme="edgefl-dark")
    assert snap_compare(console, terminal_size=(80, 24), run_before=act)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["edgefl-dark", "edgefl-light"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize("operation", ["plan", "apply"])
def test_an_operation_looks_as_accepted(
    operation: str, size: tuple[int, int], theme: str, snap_compare: Compare, tmp_path: Path
) -> None:
    (tmp_path / "site.yaml").write_text(ADOPTED)
    works = Works(tmp_path)
    if operation == "plan":
        works._tree = Tree("plan", "clinic", 0.0).tell_all(stream_of("plan-first"), 1.0).finish(3.0)
    else:
        error = EdgeflError("edge-02: The service is ready: no space left", hint="edgefl doctor edge-02")
        tree = Tree("up", "clinic", 0.0)
        for second, event in enumerate(stream_of("converge"), 1):
            tree = tree.tell(event, 3.0 * second)
        works._tree = tree.finish(75.0, error)

    app = Console(Recorded(FederationState(at=BEGAN)), works=works, opens="Provision", theme=theme)
    assert snap_compare(app, terminal_size=size, run_before=settled)


@pytest.mark.slow
def test_a_first_run_looks_as_accepted(state: FederationState, snap_compare: Compare) -> None:
    app = Console(Recorded(state), works=Works(Path("/srv/clinic")), opens="Provision", theme="edgefl-dark")

    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        while not isinstance(app.stage.top, FirstRun):
            await pilot.pause(0.02)
        await settled(pilot)

    assert snap_compare(app, terminal_size=(80, 24), run_before=act)


@pytest.mark.slow
def test_the_editor_looks_as_accepted(state: FederationState, snap_compare: Compare, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(ADOPTED.replace("isolation:", "# who may come in\nisolatoin:"))
    app = Console(Recorded(state), works=Works(tmp_path), opens="Provision", theme="edgefl-dark")

    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press("E")
        while not (app.query(YamlArea) and app.query_one(YamlArea)._problems):
            await pilot.pause(0.02)
        app.query_one(YamlArea).cursor_blink = False
        await settled(pilot)

    assert snap_compare(app, terminal_size=(100, 30), run_before=act)


@pytest.mark.slow
def test_a_device_with_flags_looks_as_accepted(state: FederationState, snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press(*["down"] * 6, "enter")
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), theme="edgefl-dark"), terminal_size=(120, 36), run_before=act)


@pytest.mark.slow
def test_a_flag_with_its_evidence_looks_as_accepted(state: FederationState, snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press("4", "enter")
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), theme="edgefl-dark"), terminal_size=(120, 36), run_before=act)


@pytest.mark.slow
def test_without_colour_everything_can_still_be_told(
    state: FederationState, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(Console(Recorded(state)), terminal_size=(80, 24), run_before=settled)
