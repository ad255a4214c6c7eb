"""What devices say reaches a terminal as text and as nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgefl.cli.output import safe
from edgefl.console.ink import ink, plain
from edgefl.progress import printable

HOSTILE = "gone\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\r\nnext"


@pytest.mark.parametrize("shown", [printable, safe, lambda text: plain(ink(text))])
def test_no_control_character_reaches_the_terminal(shown: Callable[[str], str]) -> None:
    text = shown(HOSTILE)
    assert text.isprintable()
    assert "gone" in text
    assert "next" in text


def test_ordinary_text_stays_as_it_is() -> None:
    assert printable("ε 4.0 / 8.0 ⚑ edge-07") == "ε 4.0 / 8.0 ⚑ edge-07"
