import pytest

from edgefl.console.widgets.canvas import Canvas, Series, Shade, ticks


def drawn(canvas: Canvas) -> list[str]:
    return ["".join(sign for sign, _ in canvas.row(row)) for row in range(canvas.rows)]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    lines = drawn(Canvas(Series(((1, 0.0), (2, 1.0))), 4, 4))
    assert [len(line.rstrip()) for line in lines] == [4, 3, 2, 1]
    assert lines[0].startswith("   ")


def test_the_band_is_filled_between_its_edges_to_an_eighth_of_a_row() -> None:
    canvas = Canvas(Series((), ((1, 0.25, 0.75), (2, 0.25, 0.75))), 1, 8, floor=0.0, ceiling=1.0)
    shades = [canvas.row(row)[0][1] for row in range(8)]
    assert shades == [Shade.NONE] * 2 + [Shade.BAND] * 4 + [Shade.NONE] * 2


def test_a_single_round_is_one_dot_on_a_scale_of_its_own() -> None:
    canvas = Canvas(Series(((1, 0.5),)), 10, 5)
    assert sum(sign != " " for line in drawn(canvas) for sign in line) == 1
    assert len(canvas.labels) >= 2


def test_nothing_yet_draws_an_empty_canvas() -> None:
    assert {sign for line in drawn(Canvas(Series(), 10, 5)) for sign in line} == {" "}


@pytest.mark.parametrize("extent", [(0.52, 0.91), (0.0, 0.0), (1e-9, 2e-9), (-5.0, 12.0), (0.5, 1e7), (3.0, 3.0)])
def test_ticks_are_round_ascending_and_at_least_two(extent: tuple[float, float]) -> None:
    marks = ticks(*extent, 5)
    assert len(marks) >= 2
    assert marks == sorted(marks)


def test_ticks_of_rounds_are_whole_and_within_the_run() -> None:
    assert ticks(1, 30, 4, whole=True) == [10, 20, 30]
    assert ticks(1, 3, 8, whole=True) == [1, 2, 3]
    assert ticks(1, 1, 4, whole=True) == [1]


def test_a_forecast_is_dashed_and_the_level_has_a_mark_where_something_passes_it() -> None:
    series = Series(((0, 0.0), (10, 0.5), (20, 0.5)), ahead=10.0, level=1.0, marks=(20.0,))
    lines = drawn(Canvas(series, 20, 4, floor=0.0))
    assert lines[0] == "╌" * 19 + "✖"
    [ahead] = [line[11:] for line in lines[1:] if line[11:].strip()]
    assert {sign == " " for sign in ahead[::2]} != {sign == " " for sign in ahead[1::2]}, "every other cell is empty"
