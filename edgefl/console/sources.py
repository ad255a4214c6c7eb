"""What views may read beside frames: the hosts' logs, and the journal before the console was opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgefl.console.archive import Archive
from edgefl.console.lines import LogSource


@dataclass(frozen=True, slots=True)
class Sources:
    """None where there is none: a recording has no logs.

    told: to be called when there is something new to be drawn, as often as there is.
    """

    logs: LogSource | None
    archive: Archive | None
    told: Callable[[], None]
