"""The grid on rows of its own: what it draws, what it paints again, and where the cursor goes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from edgefl.console.ink import Ink, ink
from edgefl.console.query import Query
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid, Sorting


@dataclass(frozen=True)
class Row:
    name: str
    value: int


class Bench(App[None]):
    """A grid that counts which rows it formats and which lines it paints."""

    CSS = "Grid { height: 1fr; }" + "".join(
        f".ink--{tone} {{ color: white; }}" for tone in ("plain", "strong", "muted", "accent", "good", "warn", "bad")
    )

    def __init__(self) -> None:
        super().__init__()
        self.formatted: list[str] = []
        self.painted: list[int] = []

        def name(row: Row, _: int) -> Ink:
            self.formatted.append(row.name)
            return ink(row.name)

        columns: tuple[Column[Row], ...] = (
            Column("name", "NAME", 10, name, lambda row: row.name, right=False),
            Column("value", "VALUE", 6, lambda row, _: ink(str(row.value)), lambda row: row.value, descending=True),
        )
        bench = self

        class Counted(Grid[Row]):
            def render_line(self, y: int):  # type: ignore[no-untyped-def]
                bench.painted.append(y)
                return super().render_line(y)

        self.grid: Grid[Row] = Counted(columns, lambda row: row.name, empty="nothing here")

    def compose(self) -> ComposeResult:
        yield self.grid


@asynccontextmanager
async def bench(rows: list[Row]) -> AsyncIterator[tuple[Bench, Pilot[None]]]:
    app = Bench()
    async with app.run_test(size=(40, 12)) as pilot:
        app.grid.focus()
        app.grid.show(rows)
        await pilot.pause()
        app.formatted.clear()
        app.painted.clear()
        yield app, pilot


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await pilot.pause(0.01)


def rows(count: int) -> list[Row]:
    return [Row(f"row-{number:04d}", number) for number in range(count)]


def selected(app: Bench) -> str:
    assert app.grid.selected is not None
    return app.grid.selected.name


async def test_a_thousand_rows_cost_a_screenful_of_formatting() -> None:
    many = rows(1000)
    async with bench(many) as (app, pilot):
        app.grid.show([*many[:-1], Row("row-0999", -1)])
        await pilot.pause()
        assert set(app.formatted) == {row.name for row in many[:11]}
        await pilot.press("end")
        assert selected(app) == "row-0999"
        await until(pilot, lambda: "row-0999" in app.formatted)
        assert app.grid.scroll_offset.y == 1000 - 11


async def test_only_the_lines_that_changed_are_painted_again() -> None:
    few = rows(8)
    async with bench(few) as (app, pilot):
        app.grid.show([*few[:3], Row("row-0003", 77), *few[4:]])
        await until(pilot, lambda: bool(app.painted))
        assert set(app.painted) == {4}
        app.painted.clear()
        app.grid.show([*few[:3], Row("row-0003", 77), *few[4:]])
        await pilot.pause()
        assert app.painted == []


async def test_the_cursor_stays_on_its_row_while_others_move() -> None:
    few = rows(5)
    async with bench(few) as (app, pilot):
        await pilot.press("down", "down")
        app.grid.show(few[::-1])
        assert selected(app) == "row-0002"
        app.grid.show([few[4], few[0]])
        assert selected(app) == "row-0000", "its row is gone: the nearest takes the cursor"
        app.grid.show([])
        assert app.grid.selected is None
        await pilot.press("down", "enter")


async def test_a_cursor_that_nobody_moved_stays_at_the_top_where_the_newest_row_comes() -> None:
    few = rows(5)
    async with bench(few[::-1][1:]) as (app, _):
        app.grid.show(few[::-1])
        assert selected(app) == "row-0004"


async def test_rows_without_a_value_sort_last_in_both_directions() -> None:
    column: Column[Row] = Column("value", "VALUE", 6, lambda row, _: ink(str(row.value)), lambda row: row.value or None)
    async with bench([]) as (app, _):
        app.grid._columns = (column,)
        app.grid.show([Row("none", 0), Row("low", 1), Row("high", 9)])
        for reverse, names in ((False, ["low", "high", "none"]), (True, ["high", "low", "none"])):
            app.grid.sorting = Sorting("value", reverse)
            assert [row.name for row in app.grid.rows] == names


async def test_the_filter_knows_how_many_rows_there_are_without_it() -> None:
    async with bench(rows(30)) as (app, _):
        app.grid.filter = Query("row-001")
        assert (len(app.grid.rows), app.grid.total) == (10, 30)


async def test_a_filter_looks_only_at_rows_that_are_new_and_painting_only_at_those_in_sight() -> None:
    many = rows(5000)
    async with bench(many) as (app, pilot):
        app.grid.filter = Query("row-0")
        app.grid.show(many)
        app.formatted.clear()
        app.grid.show([*many[1:], Row("row-0new", 5000)])
        await pilot.pause()
        assert set(app.formatted) == {*(row.name for row in many[1:12]), "row-0new"}


async def test_a_mark_on_a_row_that_goes_is_gone_too() -> None:
    few = rows(4)
    async with bench(few) as (app, pilot):
        await pilot.press("space", "down", "space")
        assert [row.name for row in app.grid.marked] == ["row-0000", "row-0001"]
        app.grid.show(few[1:])
        assert [row.name for row in app.grid.marked] == ["row-0001"]
        app.grid.show(few)
        assert [row.name for row in app.grid.marked] == ["row-0001"]


async def test_a_filter_draws_again_only_what_changed_and_what_is_on_the_screen() -> None:
    many = rows(1000)
    async with bench(many) as (app, pilot):
        app.grid.filter = Query("row-")
        await pilot.pause()
        app.formatted.clear()
        app.grid.show([*many[:-1], Row("row-0999", -1)])
        await pilot.pause()
        assert set(app.formatted) == {row.name for row in many[:11]} | {"row-0999"}


async def test_an_age_is_told_anew_though_its_row_stays_the_same() -> None:
    seconds = 4
    age: Column[Row] = Column("age", "AGE", 6, lambda _, __: ink(f"{seconds}s"), lambda row: row.value, ages=True)
    async with bench(rows(3)) as (app, _):
        app.grid._columns = (*app.grid._columns, age)
        app.grid.filter = Query("age:4s")
        assert len(app.grid.rows) == 3
        seconds = 5
        app.grid.show(rows(3))
        assert len(app.grid.rows) == 0


async def test_the_cursor_comes_back_into_view_when_a_filter_leaves_few_rows() -> None:
    async with bench(rows(1000)) as (app, pilot):
        await pilot.press("end")
        await until(pilot, lambda: app.grid.scroll_offset.y == 1000 - 11)
        app.grid.filter = Query("row-00")
        await until(pilot, lambda: app.grid.scroll_offset.y == 100 - 11)
        app.grid.filter = Query("row-000")
        await until(pilot, lambda: app.grid.scroll_offset.y == 0 and not app.grid.show_vertical_scrollbar)
        app.grid.filter = Query("")
        await until(pilot, lambda: app.grid.show_vertical_scrollbar)
        assert app.grid.max_scroll_y == 1000 - 11
