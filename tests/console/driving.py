"""A console driven by its keys: what is on its screen, and waiting for what should come to be there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import textual.app
import textual.pilot
from textual._context import active_app
from textual.message_pump import MessagePump
from textual.pilot import Pilot

from edgefl.console.app import Console

Driven = Pilot[None]
PATIENCE_S = 180.0
"""Longer than anything takes on a machine that is busy with much else; nothing waits so long for what happens."""
MOST_TURNS = 20


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from a key or a click has happened when the pilot goes on, however busy this machine is.

    Textual's pilot waits for the messages that stand in line when it begins to wait. A click on a key of the last line takes
    several turns: the key tells the app, the app closes a page, the last line is composed anew and laid out. Nor does it then
    guess from the process' CPU time whether more is to come, which takes 20 ms each time.
    """
    once = Pilot._wait_for_screen

    def waits(pump: MessagePump) -> bool:
        return pump.message_queue_size > 0

    async def settled(pilot: Pilot[object]) -> bool:
        for _ in range(MOST_TURNS):
            if not await once(pilot):
                return False
            screen = pilot.app.screen
            screen._on_timer_update()  # what is to be laid out waits for a timer
            if not screen._callbacks and not any(map(waits, (pilot.app, *screen.walk_children(with_self=True)))):
                break
        return await once(pilot)

    async def idle(*_: float) -> None:
        await settled(Pilot(active_app.get()))

    monkeypatch.setattr(Pilot, "_wait_for_screen", settled)
    for module in (textual.app, textual.pilot):
        monkeypatch.setattr(module, "wait_for_idle", idle)


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
