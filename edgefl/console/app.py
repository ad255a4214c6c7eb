"""The console: a masthead, a tab bar, the stage with its views, and the keys that act everywhere.

Events arrive in a worker; the screen is painted at most ten times a second, and only where something changed.
"""

from __future__ import annotations

import re
from asyncio import to_thread
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import ClassVar

from textual import work
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.timer import Timer

from edgefl.console.acting import Acting
from edgefl.console.archive import Archive
from edgefl.console.controls import Controls
from edgefl.console.export import NoPicture, as_csv, as_json, as_png, write
from edgefl.console.feed import Feed
from edgefl.console.jump import Nowhere, lead, places
from edgefl.console.lines import LogSource
from edgefl.console.live import Frame, Live
from edgefl.console.provisioning.works import Works
from edgefl.console.screens.export import Export
from edgefl.console.screens.help import KEYS, Help, told, told_of
from edgefl.console.screens.jump import Jump
from edgefl.console.sources import Sources
from edgefl.console.tape import NoSuchMoment
from edgefl.console.theme import DARK, LIGHT, preferred
from edgefl.console.view import GridView, View
from edgefl.console.views import VIEWS
from edgefl.console.views.logs import Logs
from edgefl.console.views.provision import Provision
from edgefl.console.widgets.keyline import Keyline
from edgefl.console.widgets.masthead import Masthead
from edgefl.console.widgets.stage import Stage
from edgefl.console.widgets.tabbar import TabBar

PAINT_S = 0.1
"""Shortest time between two paints."""
TICK_S = 1.0
"""How often ages and staleness are brought up to date when nothing arrives."""


class Console(Acting):
    """The operator's console on one feed.

    controls: what it may do; None makes it read-only. works: the site that it may provision; None where it may not.
    logs, archive: what it may read beside the feed; None where there is none. opens: the view that it begins with; empty means
    the first. speed: how fast a recording plays, 0 shows its end.
    """

    TITLE = "edgefl"
    CSS_PATH = Path(__file__).with_name("console.tcss")
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012  # Textual declares it an instance's
    VERTICAL_BREAKPOINTS = [(0, "-low"), (40, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"view({number - 1})", view.NAME, show=False, tooltip=f"{view.NAME}")
            for number, view in enumerate(VIEWS, 1)
        ),
        Binding("colon", "jump", "Jump", key_display=":"),
        Binding("e", "export", "Export"),
        Binding("p", "pause", "Pause"),
        Binding("left_square_bracket", "step(-1)", "One round back in the recording", show=False),
        Binding("right_square_bracket", "step(1)", "One round on in the recording", show=False),
        Binding("plus", "pace(1)", "Play the recording, faster", show=False),
        Binding("minus", "pace(-1)", "Play the recording, slower", show=False),
        Binding("escape", "back", "Back"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self,
        feed: Feed,
        *,
        controls: Controls | None = None,
        logs: LogSource | None = None,
        archive: Archive | None = None,
        works: Works | None = None,
        opens: str = "",
        theme: str = "",
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = monotonic,
        speed: float = 0.0,
    ) -> None:
        super().__init__(controls, works)
        self._live = Live(feed, self._told, wall=wall, clock=clock, speed=speed)
        self._masthead = Masthead()
        self._tabs = TabBar([view.NAME for view in VIEWS])
        self.stage = Stage(VIEWS, opens)
        self.stage.give(Sources(logs, archive, self._told))
        self._painted = 0.0
        self._due: Timer | None = None
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = theme or preferred()

    def compose(self) -> ComposeResult:
        """Masthead, tab bar, stage, footer: 2 + 1 + rest + 1 lines."""
        yield self._masthead
        yield self._tabs
        yield self.stage
        yield Keyline()

    def on_mount(self) -> None:
        """Start listening."""
        for view in self.stage.views:
            if isinstance(view, Provision):
                view.offer(self._works)
        self.set_interval(TICK_S, self.paint)
        self.paint()
        self._listen()

    @property
    def frame(self) -> Frame:
        """What is to be seen now."""
        return self._live.frame()

    @work(exclusive=True, group="feed")
    async def _listen(self) -> None:
        await self._live.follow()

    def _told(self) -> None:
        """Something may look different: paint soon, once for all that arrives until then."""
        if self._due is None:
            wait_s = max(0.001, self._painted + PAINT_S - monotonic())
            self._due = self.set_timer(wait_s, self._paint_due)

    def _paint_due(self) -> None:
        self._due = None
        self.paint()

    def paint(self) -> None:
        """Bring the screen up to the present frame; a console that is ending has none."""
        if not self.is_running:
            return
        self._painted = monotonic()
        frame = self.frame
        self._masthead.show(frame)
        self._tabs.show(self.stage.active, self.stage.trail, frame.problem)
        self.stage.show(frame)
        self.weigh(frame)
        if frame.speed:
            self._told()

    @property
    def crash(self) -> Exception | None:
        """The error of edgefl's own that ended the console; None when the operator did."""
        return self._exception

    def _fatal_error(self) -> None:
        """Textual would print the traceback: instead the caller raises `crash` and shows it as any other error."""
        self._close_messages_no_wait()

    # Moving about

    async def action_view(self, index: int) -> None:
        """Change to a view."""
        await self.stage.choose(index, self.frame)
        self._moved()

    async def action_back(self) -> None:
        """Close the page on top; never quits."""
        await self.stage.back(self.frame)
        self._moved()

    async def on_view_open(self, message: View.Open) -> None:
        """A row was opened."""
        await self.stage.open(message.page, self.frame, instead=message.instead)
        self._moved()

    async def on_view_logs(self, message: View.Logs) -> None:
        """The logs of some hosts were asked for."""
        self.query_one(Logs).read(message.hosts)
        await self.action_view(VIEWS.index(Logs))

    async def on_tab_bar_chosen(self, message: TabBar.Chosen) -> None:
        """A tab was clicked."""
        await self.action_view(message.index)

    def _moved(self) -> None:
        self._tabs.show(self.stage.active, self.stage.trail, self.frame.problem)
        self.refresh_bindings()

    def action_jump(self) -> None:
        """Ask where to, and go there."""
        self.push_screen(Jump([*places(self.frame.state, VIEWS), *self._live.moments]), self._jumped)

    async def _jumped(self, typed: str | None) -> None:
        if not typed or not typed.strip():
            return
        try:
            if self._live.moments and typed.split()[0] == "at":
                self._live.seek(self._live.tape.find(" ".join(typed.split()[1:])))
                return
            there = lead(typed, self.frame.state, VIEWS)
        except (Nowhere, NoSuchMoment) as nowhere:
            self.notify(f"{nowhere.what}\nnext: {nowhere.hint}", severity="warning", markup=False)
            return
        if there.view is not None:
            await self.action_view(there.view)
        elif there.page is not None:
            await self.stage.open(there.page, self.frame)
            self._moved()

    def action_export(self) -> None:
        """Ask for a format, then write what is on the screen."""
        top = self.stage.top
        rows, marked = (top.grid.rows, top.grid.marked) if isinstance(top, GridView) else ((), ())
        self.push_screen(Export(top.title, has_rows=bool(rows or marked), marked=len(marked)), self._exported)

    def _exported(self, ending: str | None) -> None:
        if ending:
            self._export(ending)

    @work(group="actions")
    async def _export(self, ending: str) -> None:
        top = self.stage.top
        content: str | bytes = self.export_screenshot()
        if isinstance(top, GridView) and ending in {"csv", "json"}:
            content = (as_csv if ending == "csv" else as_json)(top.grid.columns, top.grid.marked or top.grid.rows)
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", top.title).lower()
        try:
            if ending == "png":
                content = await to_thread(as_png, str(content))
            path = await to_thread(write, Path.cwd(), name, ending, content, datetime.now(UTC))
        except (OSError, NoPicture) as error:
            hint = error.hint if isinstance(error, NoPicture) else "start the console where it may write"
            self.notify(f"nothing was exported: {error}\nnext: {hint}", severity="error", markup=False)
        else:
            self.notify(f"{path.name} is written\nin {path.parent}", markup=False)

    def action_pause(self) -> None:
        """Freeze the picture, or let it catch up with what arrived meanwhile."""
        self._live.pause()
        self.paint()

    def action_step(self, by: int) -> None:
        """Go through a recording, a round at a time."""
        self._live.step(by)
        self.paint()

    def action_pace(self, by: int) -> None:
        """Play a recording faster or slower."""
        self._live.pace(by)
        self.paint()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the palette offers: everything that a key of edgefl's does here now, and the themes."""
        offered: dict[str, SystemCommand] = {}
        for key, active in screen.active_bindings.items():
            does, action = told_of(active), active.binding.action
            if active.enabled and does and active.node is not screen and action != "command_palette":
                act = partial(self.run_action, action, active.node)
                offered.setdefault(does, SystemCommand(does, f"key {KEYS.get(key, key)}", act))
        yield from offered.values()
        yield SystemCommand("Theme", "change the colours", self.action_change_theme)

    def action_help(self) -> None:
        """The keys of what is on the screen."""
        top = self.stage.top
        self.push_screen(Help(top.title, top.WHAT, told(self.screen.active_bindings)), self._pressed)

    def _pressed(self, key: str | None) -> None:
        if key:
            self.simulate_key(key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what there is nowhere to go back to, and time where it cannot be gone through."""
        if action == "back":
            return bool(self.stage.trail)
        if action in {"step", "pace"}:
            return not self.frame.is_live and (action == "step" or bool(self._live.moments))
        return super().check_action(action, parameters)
