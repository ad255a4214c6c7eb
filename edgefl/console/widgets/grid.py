"""A table for live data: it looks only at the rows on screen, and repaints only the lines that changed.

A thousand devices cost as much to draw as forty: rows are the caller's own values, a column knows how to draw one. Sorting and
filtering look at all rows, but a filter draws again only what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, Generic, TypeVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from edgefl.console.ink import EMPTY, Ink, Tone, fit, ink, plain
from edgefl.console.query import Query
from edgefl.console.widgets.columns import Column, Placed, place, widened
from edgefl.console.widgets.inked import Inked

T = TypeVar("T")
EDGES = 3
"""Cells that no column gets: the sign at the edge, a blank and the scrollbar."""
SIGNS = {(False, False): " ", (True, False): "▌", (False, True): "●", (True, True): "◉"}
"""At the edge of a row: (under the cursor, marked)."""


@dataclass(frozen=True, slots=True)
class Sorting:
    """Which column the rows are ordered by; no column means the order in which they were given."""

    column: str = ""
    reverse: bool = False


class Grid(Inked, ScrollView, Generic[T], can_focus=True, inherit_bindings=False):
    """Rows of `T` in columns, with a cursor, sorting and a filter.

    The cursor and the marks stay on their rows (by key) while rows move; columns that do not fit are left out, the least
    important first. fields: what the filter sees of a row; its cells, when nothing is given.
    """

    # Textual takes default styles from the first base alone, and that is not ScrollView.
    DEFAULT_CSS = "Grid { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }"
    COMPONENT_CLASSES: ClassVar[set[str]] = {"grid--header", "grid--cursor", "grid--hover"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("home,g", "move(-1000000000)", "First", show=False),
        Binding("end,G", "move(1000000000)", "Last", show=False),
        Binding("enter", "open", "Evidence"),
        Binding("space", "mark", "Mark the row, or unmark it", show=False),
    ]

    sorting = reactive(Sorting(), layout=False)
    filter = reactive(Query(), layout=False)

    @dataclass
    class Opened(Message):
        """Enter, or a second click, on a row."""

        grid: Grid[Any]
        key: str

        @property
        def control(self) -> Grid[Any]:
            """The grid the row is in."""
            return self.grid

    @dataclass
    class Marked(Message):
        """Rows were marked or unmarked, or marked ones are gone."""

        grid: Grid[Any]

    def __init__(
        self,
        columns: Sequence[Column[T]],
        key: Callable[[T], str],
        *,
        empty: str = "",
        fields: Callable[[T], Mapping[str, str]] | None = None,
    ) -> None:
        super().__init__()
        self._empty = empty
        self._fields = fields
        self._columns = tuple(columns)
        self._key = key
        self._given: Sequence[T] = ()
        self._rows: Sequence[T] = ()
        self._judged: dict[str, tuple[T, bool]] = {}
        self._marks: frozenset[str] = frozenset()
        self._cursor = 0
        self._cursor_key = ""
        self._hover = -1
        self._placed: tuple[Placed[T], ...] = ()
        self._drawn: dict[int, tuple[Ink, bool, bool]] = {}

    # What is shown

    @property
    def rows(self) -> Sequence[T]:
        """The rows as they stand: filtered and sorted."""
        return self._rows

    @property
    def columns(self) -> Sequence[Column[T]]:
        """All columns, those that the width has no room for included."""
        return self._columns

    @property
    def total(self) -> int:
        """How many rows there are without the filter."""
        return len(self._given)

    @property
    def selected(self) -> T | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._rows else None

    @property
    def below(self) -> int:
        """How many rows there are below the cursor, or below the screen where that was scrolled further."""
        return len(self._rows) - 1 - max(self._cursor, self.scroll_offset.y + self.size.height - 2)

    @property
    def marked(self) -> list[T]:
        """The marked rows: those in sight in their order, then those that the filter hides."""
        if not self._marks:
            return []
        shown = {key: row for row in self._rows if (key := self.key_of(row)) in self._marks}
        hidden = (row for row in self._given if (key := self.key_of(row)) in self._marks and key not in shown)
        return [*shown.values(), *hidden]

    def unmark(self) -> None:
        """No row is marked any more."""
        self._mark(frozenset())

    def key_of(self, row: T) -> str:
        """What a row is known by while it moves and changes."""
        return self._key(row)

    def select(self, key: str) -> None:
        """Put the cursor on the row that is known by `key`, if there is one, and bring it into sight."""
        place = next((place for place, row in enumerate(self._rows) if self._key(row) == key), None)
        if place is not None:
            self._go(place)

    def show(self, rows: Sequence[T]) -> None:
        """Take these rows; only lines whose text changed are painted again."""
        if len(rows) != len(self._given):
            self._place(rows)
        self._given = rows
        if self._marks:
            self._mark(self._marks & {self.key_of(row) for row in rows})
        self._arrange()

    def next_sorting(self) -> None:
        """Order by the next column, after the last one as given."""
        names = ["", *(placed.column.key for placed in self._placed)]
        at = names.index(self.sorting.column) if self.sorting.column in names else 0
        self.sort_by(names[(at + 1) % len(names)])

    def sort_by(self, column: str) -> None:
        """Order by a column, in the direction that it prefers; the same column again reverses."""
        if column and column == self.sorting.column:
            self.reverse()
        else:
            found = self._column(column)
            self.sorting = Sorting(column, found.descending if found else False)

    def reverse(self) -> None:
        """Turn the order round."""
        self.sorting = Sorting(self.sorting.column, not self.sorting.reverse)

    def watch_sorting(self) -> None:
        """A new order shows at once."""
        self._arrange()

    def watch_filter(self) -> None:
        """A new filter shows at once."""
        self._judged.clear()
        self._arrange()

    def _column(self, key: str) -> Column[T] | None:
        return next((column for column in self._columns if column.key == key), None)

    def _arrange(self) -> None:
        rows = self._filtered() if self.filter else self._given
        column = self._column(self.sorting.column)
        if column is not None:
            valued = [(column.order(row), row) for row in rows]
            known = sorted((pair for pair in valued if pair[0] is not None), key=itemgetter(0), reverse=self.sorting.reverse)
            rows = [row for _, row in (*known, *(pair for pair in valued if pair[0] is None))]
        elif self.sorting.reverse:
            rows = rows[::-1]
        self._rows = rows
        self._follow_cursor()
        self._measure()
        self._paint()

    def _filtered(self) -> list[T]:
        """The rows that the filter leaves. What was judged stands until its row is another, or the filter asks for an age."""
        query, judged, self._judged = self.filter, self._judged, {}
        needed = query.needs(
            [column.key for column in self._columns if not column.ages], [column.key for column in self._columns]
        )
        columns = [column for column in self._columns if column.key in needed]
        asks_age = any(column.ages for column in columns)
        fields = self._fields or (lambda row: {column.key: plain(column.draw(row, column.cells)) for column in columns})
        rows = []
        for row in self._given:
            key = self._key(row)
            known = judged.get(key)
            if known is None or asks_age or known[0] != row:
                known = (row, query.accepts(fields(row)))
            self._judged[key] = known
            if known[1]:
                rows.append(row)
        return rows

    def _mark(self, keys: frozenset[str]) -> None:
        if keys != self._marks:
            self._marks = keys
            self._paint()
            self.post_message(self.Marked(self))

    def _follow_cursor(self) -> None:
        """Keep the cursor on its row; when the row is gone, on the one that took its place. Unmoved, it stays at the top."""
        rows, key = self._rows, self._cursor_key
        self._cursor = max(0, min(self._cursor, len(rows) - 1))
        if key and rows and self.key_of(rows[self._cursor]) != key:
            self._cursor = next((index for index, row in enumerate(rows) if self.key_of(row) == key), self._cursor)

    def _measure(self) -> None:
        size = Size(self.size.width, len(self._rows) + 1)
        has_bar = size.height > self.size.height
        if size.width != self.virtual_size.width or has_bar != self.show_vertical_scrollbar:
            self.virtual_size = size
        elif size.height != self.virtual_size.height:  # the bar alone changes: no layout, which would paint the whole screen
            self.set_reactive(Grid.virtual_size, size)
            if has_bar:
                self.vertical_scrollbar.window_virtual_size = size.height
            if self.scroll_offset.y > self.max_scroll_y:
                self.scroll_to(y=self.max_scroll_y, animate=False)

    def _place(self, rows: Sequence[T], cells: int | None = None) -> None:
        """Choose the columns for the width that there is; what stands at the edges takes its share."""
        columns = [widened(column, rows) for column in self._columns]
        self._placed = place(columns, (self.size.width if cells is None else cells) - EDGES)
        self._drawn.clear()
        self.refresh()

    # Drawing

    def _paint(self) -> None:
        """Refresh the lines that differ from what is on the screen."""
        if not self.is_mounted:
            return
        for y in range(self.size.height):
            if y in self._drawn and self._drawn[y] != self._compose_line(y):
                del self._drawn[y]
                self.refresh(Region(0, y, self.size.width, 1))

    def _index(self, y: int) -> int:
        """The row at a line of the widget; -1 for the header."""
        return -1 if y == 0 else y - 1 + self.scroll_offset.y

    def _compose_line(self, y: int) -> tuple[Ink, bool, bool]:
        """What a line says, and whether it lies under the cursor or the mouse."""
        index = self._index(y)
        if index < 0:
            return self._header(), False, False
        if index >= len(self._rows):
            return (self._nothing() if index == 0 else EMPTY), False, False
        is_cursor = index == self._cursor
        line: Ink = ink(SIGNS[is_cursor, self.key_of(self._rows[index]) in self._marks], Tone.ACCENT)
        for placed in self._placed:
            cell = placed.column.draw(self._rows[index], placed.cells)
            line = (*line, *fit(cell, placed.cells, right=placed.column.right), *ink(" " * placed.gap))
        return line, is_cursor, index == self._hover

    def _nothing(self) -> Ink:
        return ink("  " + ("no row matches the filter" if self._given else self._empty), Tone.MUTED)

    def _header(self) -> Ink:
        line: Ink = ink(" ")
        for placed in self._placed:
            title = ink(placed.column.title, Tone.MUTED)
            if placed.column.key == self.sorting.column:
                sign = "▼" if self.sorting.reverse else "▲"
                name = ink(placed.column.title, Tone.STRONG)
                title = (*ink(sign, Tone.ACCENT), *name) if placed.column.right else (*name, *ink(sign, Tone.ACCENT))
            line = (*line, *fit(title, placed.cells, right=placed.column.right), *ink(" " * placed.gap))
        return line

    def render_line(self, y: int) -> Strip:
        """One line of the widget, from the row that stands there now."""
        self._drawn[y] = drawn = self._compose_line(y)
        line, is_cursor, is_hovered = drawn
        return self.strip(line, self.size.width, self._ground(y, is_cursor=is_cursor, is_hovered=is_hovered))

    def _ground(self, y: int, *, is_cursor: bool, is_hovered: bool) -> Style | None:
        name = "grid--header" if y == 0 else "grid--cursor" if is_cursor else "grid--hover" if is_hovered else ""
        return Style(bgcolor=self.get_component_rich_style(name).bgcolor) if name else None

    def notify_style_update(self) -> None:
        """A theme changed: nothing that was drawn holds any more."""
        super().notify_style_update()
        self._drawn.clear()

    def on_resize(self, event: events.Resize) -> None:
        """Choose the columns for the new width."""
        self._place(self._given, event.size.width)
        self._measure()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """What was drawn belongs to other rows now."""
        self._drawn.clear()
        super().watch_scroll_y(old_value, new_value)

    # Keys and mouse

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        self._go(self._cursor + step)

    def action_page(self, step: int) -> None:
        """Move the cursor by screens."""
        self._go(self._cursor + step * max(1, self.size.height - 2))

    def action_mark(self) -> None:
        """Mark the row under the cursor, or unmark it."""
        if self._rows:
            self._mark(self._marks ^ {self.key_of(self._rows[self._cursor])})

    def action_open(self) -> None:
        """Open what stands behind the row under the cursor."""
        if self._rows:
            self.post_message(self.Opened(self, self.key_of(self._rows[self._cursor])))

    def _go(self, index: int) -> None:
        if not self._rows:
            return
        self._cursor = max(0, min(index, len(self._rows) - 1))
        self._cursor_key = self.key_of(self._rows[self._cursor])
        visible = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= top + visible:
            self.scroll_to(y=self._cursor - visible + 1, animate=False, force=True)
        self._paint()

    def on_click(self, event: events.Click) -> None:
        """A header sorts, a row takes the cursor, the row under the cursor opens; a row's left edge marks it."""
        index = self._index(event.y)
        if index < 0:
            at = 1
            for placed in self._placed:
                if at <= event.x < at + placed.cells + placed.gap:
                    self.sort_by(placed.column.key)
                at += placed.cells + placed.gap
        elif index < len(self._rows):
            if event.x == 0:
                self._go(index)
                self.action_mark()
            elif index == self._cursor:
                self.action_open()
            else:
                self._go(index)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """The row under the mouse is tinted."""
        self._hover_at(self._index(event.y))

    def on_leave(self) -> None:
        """No row is under the mouse."""
        self._hover_at(-1)

    def _hover_at(self, index: int) -> None:
        if index != self._hover:
            self._hover = index
            self._paint()
