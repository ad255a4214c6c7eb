"""Draw the README's picture of the console from a recorded run: `make screenshots` records one and calls this.

python tools/screenshots.py RECORDING docs/console.svg
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from edgefl.console.app import Console
from edgefl.console.feed import ReplayFeed

SIZE = (132, 16)
SHOWN_S = 10.0


async def drawn(recording: Path) -> str:
    """The screen as SVG, once the recording has played to its end."""
    app = Console(ReplayFeed(recording))
    async with app.run_test(size=SIZE) as pilot:
        async with asyncio.timeout(SHOWN_S):
            while "COMPLETED" not in (text := app.export_screenshot()):
                await pilot.pause(0.2)
        return text


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(asyncio.run(drawn(Path(sys.argv[1]))))
