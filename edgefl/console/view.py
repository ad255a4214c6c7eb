"""What a view or a page is, and what those with a grid have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from edgefl.console.live import Frame
from edgefl.console.query import Query
from edgefl.console.sources import Sources
from edgefl.console.widgets.filterline import FilterLine
from edgefl.console.widgets.grid import Grid

LOGS = Binding("l", "logs", "Logs")
"""For views whose rows are about devices."""


class View(Vertical, can_focus=False):
    """A part of the console that fills the stage: one of the tab bar's views, or a page opened from one.

    It is given frames while it is on the screen, and draws nothing of its own accord.
    """

    NAME: ClassVar[str] = ""
    """Its title in the tab bar, and for `:` in lower case."""
    WHAT: ClassVar[str] = ""
    """One sentence for the help."""
    OF_DEVICES: ClassVar[bool] = False
    """Whether it is about devices that can be put in quarantine and released from here."""

    class Open(Message):
        """Asks for a page to be opened over this view, or instead of it where it is a page itself."""

        def __init__(self, page: View, *, instead: bool = False) -> None:
            super().__init__()
            self.page = page
            self.instead = instead

    class Logs(Message):
        """Asks for the logs of these hosts."""

        def __init__(self, hosts: Sequence[str]) -> None:
            super().__init__()
            self.hosts = tuple(hosts)

    @property
    def title(self) -> str:
        """What the tab bar calls it."""
        return self.NAME

    @property
    def devices(self) -> Sequence[str]:
        """The devices that an action on devices is for."""
        return ()

    def take(self, sources: Sources) -> None:
        """Remember what may be read beside frames, before the first of them; most views need nothing."""

    def show(self, frame: Frame) -> None:
        """Bring what is on the screen up to this frame."""
        raise NotImplementedError

    def take_focus(self) -> None:
        """Give the keyboard to the part that it belongs to."""
        self.focus()

    def begin(self) -> None:
        """Its key was pressed: it begins where it always does, whatever had the keyboard there before."""


class GridView(View):
    """A view around a grid: its sorting and its filter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("y", "copy", "Copy what the row is known by", show=False),
        Binding("escape", "unmark", "Unmark every row", show=False),
    ]

    def __init__(self, grid: Grid[Any]) -> None:
        super().__init__()
        self.grid = grid
        self._filter_line = FilterLine()

    def take_focus(self) -> None:
        """The rows have the keyboard."""
        self.grid.focus()

    def action_filter(self) -> None:
        """Type a filter."""
        self._tell()
        self._filter_line.open()

    def action_sort(self) -> None:
        """Order by the next column."""
        self.grid.next_sorting()

    def action_reverse(self) -> None:
        """Reverse the order."""
        self.grid.reverse()

    @property
    def chosen(self) -> list[Any]:
        """The rows that an action is for: those that are marked, else the one under the cursor."""
        selected = self.grid.selected
        return self.grid.marked or ([selected] if selected is not None else [])

    def copied(self, row: Any) -> str:
        """What `y` copies of a row."""
        return self.grid.key_of(row)

    def device_of(self, row: Any) -> str:
        """The device that a row is about; empty when it is about none."""
        return self.grid.key_of(row)

    @property
    def devices(self) -> Sequence[str]:
        """The devices of the chosen rows."""
        return list(dict.fromkeys(filter(None, map(self.device_of, self.chosen))))

    def action_copy(self) -> None:
        """Give the terminal's clipboard what the chosen rows are known by, one a line."""
        texts = [self.copied(row) for row in self.chosen]
        if texts:
            self.app.copy_to_clipboard("\n".join(texts))
            self.notify(f"copied: {texts[0] if len(texts) == 1 else f'{len(texts)} rows'}", markup=False)

    def action_logs(self) -> None:
        """Read the logs of the chosen rows' devices."""
        if devices := self.devices:
            self.post_message(self.Logs(devices))

    def action_unmark(self) -> None:
        """Mark no row."""
        self.grid.unmark()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where nothing is marked, esc goes back."""
        return action != "unmark" or bool(self.grid.marked)

    def on_grid_marked(self, message: Grid.Marked) -> None:
        """Say how many rows are marked."""
        if message.grid is self.grid:
            self._tell()
            self.refresh_bindings()

    def on_filter_line_changed(self, message: FilterLine.Changed) -> None:
        """The filter acts while it is typed."""
        self.grid.filter = self.query_of(message.value)
        self._tell()

    def query_of(self, text: str) -> Query:
        """What of a filter's text the rows are held against: all of it, unless the view takes a word for itself."""
        return Query(text)

    def _tell(self) -> None:
        self._filter_line.tell(len(self.grid.rows), self.grid.total, len(self.grid.marked))

    def on_filter_line_left(self, message: FilterLine.Left) -> None:
        """The keyboard goes back to the rows."""
        self.grid.focus()

    def compose(self) -> ComposeResult:
        """The parts above, the grid, the parts below, and the filter's line when it is open."""
        yield from self.above()
        yield self.grid
        yield from self.below()
        yield self._filter_line

    def above(self) -> Iterable[Widget]:
        """What stands above the grid."""
        return ()

    def below(self) -> Iterable[Widget]:
        """What stands below the grid."""
        return ()
