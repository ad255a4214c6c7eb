"""Draw the README's pictures of the console from what really happened: `make screenshots` reads the journal and calls this.

python tools/screenshots.py sites/demo/.edgefl/journal/journal.ndjson docs
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from edgefl.console.app import Console
from edgefl.console.archive import Recording
from edgefl.console.feed import ReplayFeed

SHOWN_S = 20.0


@dataclass(frozen=True)
class Picture:
    """What is pressed once the recording has come to its end, and what the screen says when it is there."""

    name: str
    size: tuple[int, int]
    keys: Sequence[str]
    says: str


PICTURES = (
    Picture("console.svg", (132, 16), ["1", "s"], "COMPLETED"),
    Picture("console-rounds.svg", (132, 42), ["2"], "update norm"),
    Picture("console-flag.svg", (132, 22), ["4", "enter"], "this update"),
    Picture("console-security.svg", (132, 40), ["4"], "NOT AS IT MUST BE"),
)


async def draw(recording: Path, directory: Path) -> None:
    """Write every picture into the directory."""
    for picture in PICTURES:
        app = Console(ReplayFeed(recording), archive=Recording(recording), theme="edgefl-dark")
        async with app.run_test(size=picture.size) as pilot:
            await _shown(pilot, lambda drawn: "COMPLETED" in drawn)
            await pilot.press(*picture.keys)
            drawn = await _shown(pilot, lambda drawn, says=picture.says: says.replace(" ", "&#160;") in drawn)  # type: ignore[misc]
            (directory / picture.name).write_text(drawn)


async def _shown(pilot: Pilot[None], holds: Callable[[str], bool]) -> str:
    async with asyncio.timeout(SHOWN_S):
        while not holds(drawn := pilot.app.export_screenshot()):
            await pilot.pause(0.1)
    return drawn


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1]), Path(sys.argv[2])))
