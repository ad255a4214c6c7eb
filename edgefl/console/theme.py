"""edgefl's own dark and light theme; Textual's others work too, because widgets only use its standard colours."""

from __future__ import annotations

import os

from textual.theme import Theme

DARK = Theme(
    name="edgefl-dark",
    primary="#4c9bd6",
    secondary="#7f8ea3",
    accent="#5fc9c0",
    success="#7cc48d",
    warning="#e5b567",
    error="#ec7a7a",
    foreground="#d5dbe3",
    background="#12161c",
    surface="#171c24",
    panel="#1e252f",
    dark=True,
    variables={"footer-key-foreground": "#5fc9c0", "border": "#2a333f"},
)
LIGHT = Theme(
    name="edgefl-light",
    primary="#1f6fb2",
    secondary="#5b6777",
    accent="#0b7a75",
    success="#2c7d43",
    warning="#96620a",
    error="#b8323c",
    foreground="#1f2730",
    background="#fbfbf9",
    surface="#f4f4f0",
    panel="#e8e9e4",
    dark=False,
    variables={"footer-key-foreground": "#0b7a75", "border": "#cfd2cb"},
)


def preferred() -> str:
    """The theme for this terminal: light when it says so (`COLORFGBG=…;15`), otherwise dark."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT.name if background in {"7", "15"} else DARK.name
