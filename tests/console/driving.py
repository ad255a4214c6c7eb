"""A console driven by its keys: what is on its screen, and waiting for what should come to be there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from edgefl.console.app import Console

Driven = Pilot[None]
PATIENCE_S = 180.0
"""Longer than anything takes on a machine that is busy with much else; nothing waits so long for what happens."""


def shown(app: Console) -> str:
    """The text on the screen."""
    width = app.size.width
    return "\n".join("".join(segment.text for segment in strip)[:width] for strip in app.screen._compositor.render_strips())


async def until(pilot: Driven, holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait until this holds; what the console knows is then on its screen, too, which is painted a little later by itself."""
    app: Any = pilot.app
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await pilot.pause(0.02)
    except TimeoutError:
        raise AssertionError(f"waited for {within_s:g} s in vain; on the screen:\n{shown(app)}") from None
    if app.is_running:
        app.paint()
        await pilot.pause()
