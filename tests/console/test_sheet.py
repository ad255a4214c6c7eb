"""Facts that are too long for the terminal go on below: nothing of them is cut."""

from __future__ import annotations

from edgefl.console.ink import Tone, ink, plain, width, wrap

LINE = (*ink("privacy   ", Tone.MUTED), *ink("━━━━────────"), *ink(" ε 2.44 / 8.0 · this run 1.60 · 79 rounds left"))


def test_a_line_that_fits_is_left_alone() -> None:
    assert wrap(LINE, width(LINE), 10) == [LINE]


def test_a_longer_one_goes_on_as_far_in_as_it_is_told_with_every_word_and_tone() -> None:
    rows = wrap(LINE, 40, 10)
    assert [plain(row).rstrip() for row in rows] == [
        "privacy   ━━━━──────── ε 2.44 / 8.0 ·",
        "          this run 1.60 · 79 rounds left",
    ]
    assert rows[0][0] == ("privacy", Tone.MUTED)


def test_a_word_that_is_wider_than_a_row_stands_alone() -> None:
    word = "f" * 64
    assert [plain(row).strip() for row in wrap(ink(f"proof {word} signed"), 40, 3)] == ["proof", word, "signed"]
