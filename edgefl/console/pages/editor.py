"""site.yaml in the console: what is wrong with it shows while it is typed, and nothing that was typed is lost."""

from __future__ import annotations

from asyncio import sleep, to_thread
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from edgefl.console.ink import EMPTY, Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.view import View
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.sheet import Sheet
from edgefl.console.widgets.yaml import YamlArea
from edgefl.errors import EdgeflError
from edgefl.operations import draft
from edgefl.site.invalid import Finding

PAUSE_S = 0.3
"""How long the keys rest before what was typed is looked at."""


class Editor(View):
    """The text, and below it what `up` would refuse it for."""

    WHAT = (
        "site.yaml, checked after each pause of typing. ctrl+s saves, tab goes to the problems, Enter on one goes to its line. "
        "What is not saved is kept as a draft."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("tab", "app.focus_next", "Problems", show=False),
        Binding("ctrl+r", "reload", "Take the file again", tooltip="Drop the draft and take the file again"),
    ]

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._state = Sheet()
        self._area = YamlArea()
        self._problems = Grid[Finding](
            COLUMNS, lambda row: f"{row.where.path}:{row.where.line}: {row.what}", empty="nothing is wrong with it"
        )
        self._saved: str | None = None
        self._draft: str | None = None
        """What is known to be kept, so that leaving writes only what is not."""
        self._word: Ink = EMPTY
        self._is_read = False
        self._overwrites = False

    @property
    def title(self) -> str:
        """The file's name."""
        return "site.yaml"

    def compose(self) -> ComposeResult:
        """How it stands, the text, the problems."""
        yield self._state
        yield self._area
        yield self._problems

    def on_mount(self) -> None:
        """Read it."""
        self._read()

    def take_focus(self) -> None:
        """The text has the keyboard."""
        self._area.focus()

    def show(self, frame: Frame) -> None:
        """Frames are about the federation; here only the file counts."""
        self._tell()

    @work(group="file")
    async def _read(self, *, drop: bool = False) -> None:
        try:
            found = await to_thread(draft.opened, self._directory)
            if drop:
                found = draft.Draft(found.saved or "", found.saved)
                await to_thread(draft.keep, self._directory, found.text, found.saved)
        except (EdgeflError, OSError) as error:
            self._word = ink(f"✖ {error}", Tone.BAD)
            self._tell()
            return
        self._saved, self._draft, self._is_read = found.saved, found.text, True
        self._word = ink("a draft that was never saved; ctrl+r takes the file instead", Tone.WARN) if found.is_kept else EMPTY
        self._area.read_only = False
        self._area.load_text(found.text)
        self._check(found.text)

    @on(TextArea.Changed)
    def _typed(self) -> None:
        if self._is_read and self._area.text != self._draft:
            self._word = EMPTY
            self._look()
        self._tell()

    @work(group="look", exclusive=True)
    async def _look(self) -> None:
        """After the pause: keep what was typed, and see what is wrong with it. Each key begins the pause anew."""
        await sleep(PAUSE_S)
        text = self._area.text
        await self._keep(text)
        await self._checked(text)

    @work(group="look", exclusive=True)
    async def _check(self, text: str) -> None:
        await self._checked(text)

    async def _checked(self, text: str) -> None:
        found = await to_thread(draft.findings, self._directory, text)
        self._problems.show(found)
        self._area.mark({each.where.line for each in found})
        self._tell()

    async def _keep(self, text: str) -> None:
        try:
            await to_thread(draft.keep, self._directory, text, self._saved)
        except OSError as error:
            self._word = ink(f"✖ no draft is kept: {error}", Tone.BAD)
        else:
            self._draft = text

    @work(group="file")
    async def action_save(self) -> None:
        """Write the file; over what somebody else wrote meanwhile only when asked twice."""
        if not self._is_read:
            return
        text = self._area.text
        over = self._saved
        try:
            if self._overwrites:
                over = (await to_thread(draft.opened, self._directory)).saved
            await to_thread(draft.save, self._directory, text, over)
        except EdgeflError as error:
            self._overwrites = isinstance(error, draft.SiteMoved)
            self._word = ink(f"✖ {error.what}; {error.hint}", Tone.BAD)
        else:
            self._saved = self._draft = text
            self._overwrites, self._word = False, EMPTY
        self._tell()

    def action_reload(self) -> None:
        """Take the file as it is; the draft is gone."""
        self._read(drop=True)

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter on a problem: its line."""
        row = self._problems.selected
        if row is not None:
            lines = self._area.document.lines
            at = max(0, min(row.where.line - 1, len(lines) - 1))
            self._area.move_cursor((at, len(lines[at]) - len(lines[at].lstrip())), center=True)
            self._area.focus()

    async def on_unmount(self) -> None:
        """Left before the pause was over: what was typed is kept."""
        if self._is_read and self._area.text != self._draft:
            await self._keep(self._area.text)
        if self._is_read and self._area.text != self._saved:
            self.app.notify("site.yaml is not saved: E goes on with the draft", severity="warning", markup=False)

    def _tell(self) -> None:
        if not self.is_mounted:
            return
        text, problems = self._area.text, len(self._problems.rows)
        is_saved = self._is_read and text == self._saved
        state = ink("✓ saved", Tone.GOOD) if is_saved else ink("● not saved, kept as a draft; ctrl+s saves", Tone.WARN)
        count = f"{problems} problem{'' if problems == 1 else 's'}: tab, then Enter goes to its line"
        wrong = ink(count, Tone.BAD) if problems else ink("valid", Tone.GOOD)
        words = [(*ink(" "), *self._word)] if self._word else []
        self._state.show([*words, (*ink(" "), *state, *ink("   "), *wrong)])


COLUMNS: tuple[Column[Finding], ...] = (
    Column("line", "LINE", 4, lambda row, _: ink(str(row.where.line), Tone.STRONG), lambda row: row.where.line),
    Column("what", "WHAT IS WRONG", 36, lambda row, _: ink(row.what, Tone.BAD), lambda row: row.what, right=False, most=80),
    Column("next", "NEAREST RIGHT THING", 24, lambda row, _: ink(row.hint), lambda row: row.hint, right=False, most=80),
)
