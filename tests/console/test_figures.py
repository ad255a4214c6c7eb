import math

import pytest

from edgefl.console import figures
from edgefl.console.ink import Tone, fit, ink, plain, width


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0.914, "0.91"), (12.0, "12.00"), (1.25e6, "1.2e6"), (math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "—")],
)
def test_a_number_stays_short_whatever_it_is(value: float | None, text: str) -> None:
    assert figures.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0, "0"), (999, "999"), (1100, "1.1K"), (9_960, "10K"), (999_400, "999K"), (999_600, "1.0M"), (4.0e9, "4.0G")],
)
def test_bytes_take_at_most_four_characters(value: float | None, text: str) -> None:
    assert figures.size(value) == text


@pytest.mark.parametrize(("value", "text"), [(14, "14s"), (400, "6m40s"), (19 * 3600, "19h00m"), (90_000, "1d01h"), (-3, "0s")])
def test_a_span_names_its_two_largest_units(value: float, text: str) -> None:
    assert figures.span(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "—"), (2.9, "2s"), (250, "4m"), (61_200, "17h"), (3 * 86_400, "3d")])
def test_an_age_names_one_unit(value: float | None, text: str) -> None:
    assert figures.age(value) == text


@pytest.mark.parametrize(("share", "filled"), [(0, 0), (0.001, 1), (0.5, 5), (0.99, 9), (1, 10), (1.7, 10)])
def test_a_bar_is_full_only_when_all_is_spent_and_empty_only_when_nothing_is(share: float, filled: int) -> None:
    assert plain(figures.bar(share, 10, Tone.GOOD)) == "━" * filled + "─" * (10 - filled)


def test_a_sparkline_shows_the_last_values_and_leaves_out_what_is_not_finite() -> None:
    assert figures.sparkline([5, 1, 2, math.nan, 3], 3) == "▁▅█"
    assert figures.sparkline([1, 2], 0) == ""
    assert figures.sparkline([2, 2], 4) == "▁▁"


def test_a_strip_places_peers_threshold_and_the_update_even_when_its_score_is_infinite() -> None:
    assert plain(figures.strip(math.inf, 5, [0, 10], 11)) == "·╌╌╌╌│╌╌╌╌◆"


def test_a_line_is_padded_or_cut_to_the_cells_it_gets() -> None:
    line = (*ink("edge", Tone.STRONG), *ink("-01"))
    assert plain(fit(line, 9)) == "edge-01  "
    assert plain(fit(line, 9, right=True)) == "  edge-01"
    assert plain(fit(line, 6)) == "edge-…"
    assert plain(fit(line, 3)) == "ed…"
    assert all(width(fit(line, cells)) == cells for cells in range(12))
