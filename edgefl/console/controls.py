"""What the console can do to a federation; without it the console only watches."""

from __future__ import annotations

from typing import Protocol


class Controls(Protocol):
    """Actions on the federation; each raises EdgeflError with what to do about it. `MonitorClient` has them."""

    async def start_run(self) -> str:
        """Start the run that the site describes; its id."""

    async def stop_run(self, run: str) -> bool:
        """Stop a run; False when it was over already."""
