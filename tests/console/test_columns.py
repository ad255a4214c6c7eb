from edgefl.console.ink import ink
from edgefl.console.widgets.columns import Column, place


def column(key: str, cells: int, importance: int = 0, most: int = 0) -> Column[str]:
    return Column(key, key.upper(), cells, lambda row, _: ink(row), lambda row: row, importance, most=most)


COLUMNS = (column("device", 8, most=12), column("arch", 8, 2), column("cpu", 4, 1), column("seen", 5))


def total(cells: int) -> int:
    return sum(placed.cells + placed.gap for placed in place(COLUMNS, cells))


def test_columns_that_do_not_fit_are_left_out_the_least_important_first() -> None:
    assert [placed.column.key for placed in place(COLUMNS, 60)] == ["device", "arch", "cpu", "seen"]
    assert [placed.column.key for placed in place(COLUMNS, 28)] == ["device", "cpu", "seen"]
    assert [placed.column.key for placed in place(COLUMNS, 16)] == ["device", "seen"]
    assert [placed.column.key for placed in place(COLUMNS, 3)] == ["device", "seen"]


def test_what_is_placed_never_takes_more_than_there_is() -> None:
    assert all(total(cells) <= cells for cells in range(16, 200))


def test_room_goes_to_the_columns_that_can_grow() -> None:
    assert place(COLUMNS, 100)[0].cells == 12
