"""What a planned step would change, coloured and cut to what can be read at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgefl.operations.difference import differing
from edgefl.progress import Step, printable

if TYPE_CHECKING:
    from rich.text import Text

_AT_MOST = 24
"""Lines shown of one step; --json has all of them."""
_TONES = {"+": "green", "-": "red", "@": "cyan"}


def difference(step: Step) -> list[Text]:
    """The lines to show beneath the step; none where it says nothing about what differs."""
    from rich.text import Text

    lines = differing(step.detail)
    left = len(lines) - _AT_MOST
    shown = lines if left <= 1 else [*lines[:_AT_MOST], f"… {left} more lines, all in --json"]
    return [Text(f"      {printable(line)}", _TONES.get(line[:1], "dim")) for line in shown]
