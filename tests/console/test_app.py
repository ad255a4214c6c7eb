"""The console driven by its keys, on a recorded run and on a live feed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec, module_from_spec

import pytest
from textual.app import ComposeResult
from textual.widgets import Input, Static

from edgefl.console import views
from edgefl.console.app import Console
from edgefl.console.archive import Archive
from edgefl.console.controls import Controls
from edgefl.console.feed import Feed, News
from edgefl.console.lines import LogSource
from edgefl.console.live import Frame, Link
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.round import RoundPage
from edgefl.console.screens.confirm import Confirm
from edgefl.console.screens.help import Help
from edgefl.console.screens.reason import Reason
from edgefl.console.view import GridView, View
from edgefl.console.views.fleet import Fleet
from edgefl.console.views.rounds import Rounds
from edgefl.errors import EdgeflError
from edgefl.events.schema import Event, RunFinished
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status

from .driving import Driven, shown, until


@asynccontextmanager
async def console(
    feed: Feed,
    seq: int,
    *,
    size: tuple[int, int] = (80, 24),
    controls: Controls | None = None,
    logs: LogSource | None = None,
    archive: Archive | None = None,
) -> AsyncIterator[tuple[Console, Driven]]:
    """A console that has seen everything up to `seq`."""
    app = Console(feed, controls=controls, logs=logs, archive=archive, theme="edgefl-dark")
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.frame.state.seq >= seq and (feed.is_live or app.frame.link is Link.OVER))
        app.paint()
        await pilot.pause()
        yield app, pilot


def names(app: Console) -> list[str]:
    top = app.stage.top
    assert isinstance(top, GridView)
    return [top.grid.key_of(row) for row in top.grid.rows]


class Live:
    """A feed that gives these events and then whatever is put into `more`; it never ends."""

    is_live = True

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self.more: asyncio.Queue[Event] = asyncio.Queue()

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        for event in self._events[after:]:
            yield event
        while True:
            yield await self.more.get()


class Recorded:
    """A recording that ends in this state."""

    is_live = False

    def __init__(self, state: FederationState) -> None:
        self._state = state

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        assert self._state.at is not None
        yield Status(state=self._state, now=self._state.at, quorum=7)


class Clock(View):
    """A view as somebody would add one."""

    NAME = "Clock"
    WHAT = "What time it is."

    def __init__(self) -> None:
        super().__init__()
        self._text = Static()

    def compose(self) -> ComposeResult:
        yield self._text

    def show(self, frame: Frame) -> None:
        self._text.update(f"{len(frame.state.devices)} devices tick")


class Coordinator:
    """Keeps what it was asked to do; refuses a second run, as the monitor does."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.stopped: list[str] = []

    async def start_run(self) -> str:
        if self.runs:
            raise EdgeflError("run 5 is going already", hint="edgefl stop")
        self.runs.append("5")
        return "5"

    async def stop_run(self, run: str) -> bool:
        self.stopped.append(run)
        return True


def finished(events: list[Event]) -> list[Event]:
    """The recording with the end of its run."""
    last = events[-1]
    body = RunFinished(status="completed", accuracy=0.913, loss=0.28)
    return [*events, last.model_copy(update={"seq": last.seq + 1, "body": body, "round": 0, "previous": last.hash})]


@pytest.mark.slow
async def test_the_number_keys_change_views(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        assert isinstance(app.stage.top, Fleet)
        await pilot.press("2")
        assert isinstance(app.stage.top, Rounds)
        assert names(app)[0] == "30"
        await pilot.press("9")
        assert isinstance(app.stage.top, Rounds)
        await pilot.press("1")
        assert isinstance(app.stage.top, Fleet)


@pytest.mark.slow
async def test_another_view_needs_nothing_but_its_line_in_views(state: FederationState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "VIEWS", (*views.VIEWS, Clock))
    place = find_spec("edgefl.console.app")
    assert place is not None
    assert place.loader is not None
    again = module_from_spec(place)  # the module once more, beside the one that the other tests have
    place.loader.exec_module(again)
    app = again.Console(Recorded(state), theme="edgefl-dark")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.frame.state.seq >= state.seq)
        await pilot.press(str(len(views.VIEWS)))
        assert isinstance(app.stage.top, Clock)
        await until(pilot, lambda: f"{len(state.devices)} devices tick" in shown(app))
        assert "Clock" in shown(app), "the tab bar has it"
        await pilot.press("question_mark")
        await until(pilot, lambda: "What time it is." in shown(app))
        await pilot.press("escape", "1")
        assert isinstance(app.stage.top, Fleet)


@pytest.mark.slow
async def test_s_sorts_by_the_next_column_and_capital_s_reverses(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        assert names(app)[0] == "edge-01"
        await pilot.press("s", "s")
        assert names(app)[:2] == ["edge-07", "edge-09"], "what needs somebody comes first"
        await pilot.press("S")
        assert names(app)[-2:] == ["edge-09", "edge-07"]
        await pilot.press("s")
        assert names(app)[-1] == "edge-09", "the round is a number whose largest come first"


@pytest.mark.slow
async def test_the_cursor_stays_on_its_device_when_rows_move(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("down", "j")
        await pilot.press("S")
        grid = app.query_one(Fleet).grid
        assert grid.selected is not None
        assert grid.key_of(grid.selected) == "edge-03"


@pytest.mark.slow
async def test_slash_filters_while_typing_and_escape_clears(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("slash")
        assert "10 of 10" in shown(app)
        await pilot.press(*"state:offline")
        assert names(app) == ["edge-09"]
        assert "1 of 10" in shown(app)
        await pilot.press("enter")
        assert app.focused is app.query_one(Fleet).grid
        assert "1 of 10" in shown(app), "a filter that holds stays in sight"
        await pilot.press("slash", "escape")
        assert len(names(app)) == 10
        assert "of 10" not in shown(app)


@pytest.mark.slow
async def test_y_copies_the_name_of_the_row(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("down", "y")
        await until(pilot, lambda: "copied: edge-02" in shown(app))
        assert app.clipboard == "edge-02"


@pytest.mark.slow
async def test_keys_typed_into_the_filter_are_text(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("slash", *"q2sp")
        assert app.is_running
        assert isinstance(app.stage.top, Fleet)
        assert app.query_one(Fleet).query_one(Input).value == "q2sp"
        assert "no row matches the filter" in shown(app)


@pytest.mark.slow
async def test_enter_opens_the_evidence_and_escape_goes_back(state: FederationState) -> None:
    async with console(Recorded(state), state.seq, size=(120, 40)) as (app, pilot):
        await pilot.press(*["down"] * 6, "enter")
        assert isinstance(app.stage.top, DevicePage)
        text = shown(app)
        for fact in ("⚑ suspect", "10.77.0.17", "certificate ends in 19h", "isolation ✓", "round 27", "> 2.50", "rounds left"):
            assert fact in text
        await pilot.press("enter")
        assert isinstance(app.stage.top, RoundPage)
        assert "▸ edge-07 ▸ round 30" in shown(app)
        await pilot.press("escape", "escape", "escape", "escape")
        assert isinstance(app.stage.top, Fleet)
        assert app.is_running


@pytest.mark.slow
async def test_a_view_key_leaves_the_pages_that_lie_over_the_view(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("enter", "enter", "2", "1")
        assert isinstance(app.stage.top, Fleet)
        assert app.stage.trail == ()


@pytest.mark.slow
async def test_p_freezes_the_picture_and_says_so(events: list[Event]) -> None:
    feed = Live(events[:400])
    async with console(feed, 400) as (app, pilot):
        await pilot.press("p")
        before = shown(app)
        assert "‖ paused" in before
        for event in events[400:]:
            feed.more.put_nowait(event)
        await until(pilot, feed.more.empty)
        await pilot.press("s")
        assert app.frame.state.seq == 400
        await pilot.press("p")
        assert app.frame.state.seq == len(events)
        assert "30/50" in shown(app)


@pytest.mark.slow
async def test_an_event_reaches_the_screen_by_itself(events: list[Event]) -> None:
    feed = Live(events[:-1])
    async with console(feed, len(events) - 1) as (app, pilot):
        await pilot.press("2")
        assert "● running" in shown(app) or "0.907" in shown(app)
        feed.more.put_nowait(events[-1])
        await until(pilot, lambda: "0.913" in shown(app))


@pytest.mark.slow
async def test_question_mark_shows_the_keys_of_this_view(state: FederationState) -> None:
    async with console(Recorded(state), state.seq, size=(100, 40)) as (app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        text = shown(app)
        for does in ("Filter", "Sort", "Evidence", "Pause", "Quit", "Rounds"):
            assert does in text
        assert "Stop" not in text
        await pilot.press("escape")
        assert not isinstance(app.screen, Help)


@pytest.mark.slow
async def test_the_palette_has_every_action_of_the_view_in_words(state: FederationState) -> None:
    async with console(Recorded(state), state.seq, size=(100, 40)) as (app, pilot):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: "Evidence" in shown(app) and "key enter" in shown(app))
        assert "Stop" not in shown(app), "what cannot be done now is not on offer"
        assert "Focus" not in shown(app), "nor is what is not edgefl's"
        await pilot.press(*"Reverse")
        await until(pilot, lambda: "key S" in shown(app) and "key enter" not in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: names(app)[0] == "edge-10")


@pytest.mark.slow
async def test_q_leaves(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running
        assert app.crash is None


@pytest.mark.slow
async def test_x_stops_the_run_only_after_a_yes(events: list[Event]) -> None:
    coordinator = Coordinator()
    async with console(Live(events), len(events), controls=coordinator) as (app, pilot):
        assert "x Stop" in shown(app)
        assert "r Run" not in shown(app)
        await pilot.press("x")
        assert isinstance(app.screen, Confirm)
        assert "Stop run 4 of hospital-net" in shown(app)
        await pilot.press("enter")
        assert coordinator.stopped == [], "the answer under Enter changes nothing"
        await pilot.press("x", "y")
        await pilot.pause()
        assert coordinator.stopped == ["4"]


@pytest.mark.slow
async def test_r_says_what_there_is_to_resume(events: list[Event]) -> None:
    *before, last = finished(events)
    died = [*before, last.model_copy(update={"body": RunFinished(status="failed", reason="its ServerApp was killed")})]
    async with console(Live(died), len(died), controls=Coordinator()) as (app, pilot):
        await pilot.press("r")
        assert isinstance(app.screen, Confirm)
        said = str(app.screen.query_one("#what", Static).content)
    assert "Run 4 died after round " in said
    assert "this is a new one, and `edgefl run --resume` goes on with it instead" in said


@pytest.mark.slow
@pytest.mark.parametrize("question", [Confirm, Reason])
async def test_a_long_question_scrolls_and_its_answers_stay_in_sight(
    question: type[Confirm | Reason], events: list[Event]
) -> None:
    async with console(Live(events), len(events)) as (app, pilot):
        app.push_screen(question("Apply", "\n".join(f"host {number} would change" for number in range(40)), "Do it"))
        await until(pilot, lambda: "host 0 would change" in shown(app))
        assert "Do it" in shown(app)
        assert "Leave it" in shown(app)
        assert (question is Reason) == ("why, for the audit log" in shown(app))


@pytest.mark.slow
async def test_r_starts_a_run_when_none_is_going_and_shows_a_refusal(events: list[Event]) -> None:
    coordinator = Coordinator()
    done = finished(events)
    async with console(Live(done), len(done), controls=coordinator) as (app, pilot):
        assert "r Run" in shown(app)
        await pilot.press("r", "y")
        await pilot.pause()
        assert coordinator.runs == ["5"]
        await pilot.press("r", "y")
        await until(pilot, lambda: "run 5 is going already" in shown(app) and "next: edgefl stop" in shown(app))


@pytest.mark.slow
async def test_the_mouse_chooses_views_sorts_and_opens(state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        await pilot.click(offset=(16, 3))
        assert names(app)[0] == "edge-07"
        await pilot.click(offset=(5, 5))
        await pilot.click(offset=(5, 5))
        assert isinstance(app.stage.top, DevicePage)
        tabs = shown(app).splitlines()[2]
        await pilot.click(offset=(tabs.index(" 2 ") + 1, 2))
        assert isinstance(app.stage.top, Rounds)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(200, 60), (40, 10)])
async def test_every_size_draws_and_survives_resizing(size: tuple[int, int], state: FederationState) -> None:
    async with console(Recorded(state), state.seq) as (app, pilot):
        for key in ("1", "enter", "2", "enter", "3", "4", "enter", "5", "6", "7"):
            await pilot.press(key)
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: {len(line) for line in shown(app).splitlines()} <= {size[0]})
            await pilot.resize_terminal(80, 24)
        await pilot.press("2", "enter")
        assert "round 30" in shown(app)
