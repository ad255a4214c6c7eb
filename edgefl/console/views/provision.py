"""Provision: the plan and the apply as one tree, and the keys that start, stop and resume them."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Iterable
from time import monotonic
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.widget import Widget

from edgefl.console import figures
from edgefl.console.ink import EMPTY, Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.pages.editor import Editor
from edgefl.console.pages.first import FirstRun
from edgefl.console.pages.host import HostPage
from edgefl.console.pages.outcome import OutcomePage
from edgefl.console.provisioning import changes
from edgefl.console.provisioning.lines import Line, Outline
from edgefl.console.provisioning.looks import bar_ink, headline, name_ink
from edgefl.console.provisioning.tree import Mark, Tally, Tree
from edgefl.console.provisioning.works import Works
from edgefl.console.screens.confirm import Confirm
from edgefl.console.view import GridView
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.sheet import Sheet

_PAINT_S = 0.1


class Provision(GridView):
    """What is planned, what is being done, and what came of it."""

    NAME = "Provision"
    WHAT = (
        "The plan and the apply as one tree. It goes on when you leave the view. Enter opens and closes a branch, and shows what "
        "came of a failure or of a single step."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("P", "plan", "Plan"),
        Binding("A", "apply", "Apply"),
        Binding("C", "cancel", "Cancel"),
        Binding("E", "edit", "Edit site"),
        Binding("right", "fold(True)", "Open a branch", show=False),
        Binding("left", "fold(False)", "Close a branch", show=False),
    ]

    def __init__(self) -> None:
        self._works: Works | None = None
        self._headline = Sheet()
        self._outline = Outline()
        self._said: dict[str, bool] = {}
        self._drawn: Tree | None = None
        self._at = ""
        self._could: tuple[bool, bool] = (False, False)
        super().__init__(Grid[Line](COLUMNS, lambda line: line.key, empty=""))

    def above(self) -> Iterable[Widget]:
        """How it stands."""
        yield self._headline

    def on_mount(self) -> None:
        """Follow the operation more closely than the frames come."""
        self.set_interval(_PAINT_S, self._paint_news)

    def offer(self, works: Works | None) -> None:
        """Give the keys something to act on; None where nothing may. A directory without a site begins with one."""
        self._works = works
        if works is not None and self.display:
            self._begin_site(works)

    @work(group="questions")
    async def _begin_site(self, works: Works) -> None:
        if not await to_thread(works.digest):
            self.post_message(self.Open(FirstRun(works.directory)))

    def show(self, frame: Frame) -> None:
        """The tree as it is; frames are about the federation, and only their pace matters here."""
        self._paint()

    def _paint_news(self) -> None:
        if self._works is not None and ((self.display and self._works.tree is not self._drawn) or self._could != self._can()):
            self._paint()

    def _paint(self) -> None:
        if not self.is_attached:
            return  # the console is closing
        works = self._works
        tree = self._drawn = works.tree if works is not None else None
        if works is None:
            self._headline.show([EMPTY, *_READONLY, EMPTY])
        elif tree is None:
            self._headline.show([EMPTY, *_FIRST, EMPTY])
        else:
            now = monotonic()
            self._headline.show([EMPTY, *(ink(" ") + line for line in headline(tree, now, is_stopping=works.is_stopping)), EMPTY])
            self._follow(self._outline.lines(tree, self._said, now))
        if self._could != (can := self._can()):
            self._could = can
            self.refresh_bindings()

    def _follow(self, shown: list[Line]) -> None:
        """The cursor goes with the newest line until the operator moves it."""
        selected = self.grid.selected
        follows = self._works is not None and self._works.is_running and (selected is None or selected.key == self._at)
        self.grid.show(shown)
        if follows and shown:
            self._at = shown[-1].key
            self.grid.select(self._at)

    def _can(self) -> tuple[bool, bool]:
        """Whether an operation may be started, and whether one may be cancelled."""
        works = self._works
        if works is None:
            return False, False
        return not works.is_running, works.is_running and not works.is_stopping

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what cannot be done now."""
        start, cancel = self._can()
        if action == "edit":
            return self._works is not None
        if action in ("plan", "apply"):
            return start
        return cancel if action == "cancel" else super().check_action(action, parameters)

    # Looking

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: what came of a failure or of a single step, a host's tasks; of every other branch what lies beneath."""
        line = self.grid.selected
        if line is None or self._works is None:
            return
        works, fault = self._works, self._drawn.fault if self._drawn else None
        if isinstance(line.node, Tally):
            self.post_message(self.Open(HostPage(line.name, lambda: works.tree)))
        elif line.node is not None and (line.is_open is None or line.mark is Mark.FAILED):
            self.post_message(self.Open(OutcomePage(line, fault)))
        else:
            self.action_fold(not line.is_open)

    def action_fold(self, is_open: bool) -> None:
        """Open or close the branch under the cursor; closing a line that has none closes what it is in."""
        line = self.grid.selected
        if line is None:
            return
        if not is_open and not line.is_open:
            shown = list(self.grid.rows)
            place = shown.index(line)
            line = next((above for above in reversed(shown[:place]) if above.depth < line.depth), line)
            self.grid.select(line.key)
        if line.is_open is not None:
            self._said[line.key] = is_open
            self._paint()

    # Acting

    def action_plan(self) -> None:
        """Look what an apply would change."""
        self._begin("plan")

    @work(group="questions", exclusive=True)
    async def action_apply(self) -> None:
        """Ask with what the plan says, then do it; without a plan of this very site.yaml, plan first."""
        works = self._works
        if works is None or works.is_running:
            return
        if works.planned is None or works.planned.digest != await to_thread(works.digest):
            self._begin("plan", then_ask=True)
        else:
            self._ask()

    @work(group="questions", exclusive=True)
    async def action_edit(self) -> None:
        """Open site.yaml; where there is none, make one."""
        if self._works is not None:
            directory = self._works.directory
            page = Editor(directory) if await to_thread(self._works.digest) else FirstRun(directory)
            self.post_message(self.Open(page))

    def action_cancel(self) -> None:
        """Ask, then end what is at work; the same key goes on from there."""
        works, tree = self._works, self._drawn
        if works is None or tree is None:
            return
        key = {"plan": "P", "up": "A"}.get(tree.operation, "The same again")
        what = (
            f"Stop it as Ctrl-C would: what is in hand is finished, and nothing is lost. {key} goes on from there.\n"
            f"So far: {tree.changed} changed, {tree.failed} failed."
        )
        self.app.push_screen(Confirm("Cancel", what, "Stop it"), lambda yes: works.cancel() if yes else None)

    def _ask(self) -> None:
        works = self._works
        if works is None or works.planned is None:
            return
        plan, last = works.planned.tree, works.tree
        goes_on = last is not None and last.operation == "up"
        before = "The last apply did not come to its end; this one goes on from there. It was planned:\n" if goes_on else ""
        title = f"Apply to {plan.site or 'the site'}"
        self.app.push_screen(Confirm(title, before + changes.told(plan), "Apply"), self._answered)

    def _answered(self, yes: bool | None) -> None:
        if yes:
            self._begin("up")

    def _begin(self, operation: str, *, then_ask: bool = False) -> None:
        if self._works is not None and not self._works.is_running:
            self._outline, self._said, self._at = Outline(), {}, ""
            self._run(self._works, operation, then_ask=then_ask)

    @work(group="operation")
    async def _run(self, works: Works, operation: str, *, then_ask: bool = False) -> None:
        tree = await works.run(operation)
        self._paint()
        if self.display:
            pass  # what came of it stands above the tree
        elif tree.mark is Mark.FAILED:
            self.notify(tree.fault.what.splitlines()[0] if tree.fault else "", severity="error", markup=False)
        elif tree.mark is Mark.DONE and not then_ask:
            self.notify(f"{'the plan is' if operation == 'plan' else 'the apply is'} done", markup=False)
        if then_ask and tree.mark is not Mark.STOPPED and works.planned is not None:
            self._ask()


_READONLY: list[Ink] = [ink(" this console only watches: nothing is planned or applied from here", Tone.MUTED)]
_FIRST: list[Ink] = [
    ink(" P plans: what an apply would change, with nothing touched", Tone.STRONG),
    ink(" A applies it, after asking once; E edits site.yaml", Tone.STRONG),
]


def _count(value: int, tone: Tone) -> Ink:
    return ink(str(value), tone) if value else ink("·", Tone.MUTED)


def _seconds(line: Line) -> Ink:
    return ink(figures.seconds(line.seconds), Tone.MUTED) if line.seconds is not None else EMPTY


COLUMNS: tuple[Column[Line], ...] = (
    Column("name", "WHAT", 36, name_ink, lambda line: line.name, right=False, most=400),
    Column("bar", "DONE", 8, bar_ink, lambda line: line.share, 3, right=False, most=16, descending=True),
    Column(
        "changed", "CHANGED", 7, lambda line, _: _count(line.changed, Tone.WARN), lambda line: line.changed, 1, descending=True
    ),
    Column("failed", "FAILED", 6, lambda line, _: _count(line.failed, Tone.BAD), lambda line: line.failed, 2, descending=True),
    Column(
        "seconds", "TIME", 5, lambda line, _: _seconds(line), lambda line: line.seconds, descending=True,
    ),
)  # fmt: skip
