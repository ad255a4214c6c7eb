"""What the monitor needs of Flower: the one protocol between them, and the real thing behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast


class Node(Protocol):
    """A SuperNode as the SuperLink lists it."""

    @property
    def name(self) -> str:
        """The device's name."""

    @property
    def state(self) -> str:
        """`online` while its heartbeats arrive."""


class FlowerRun(Protocol):
    """A run as the SuperLink lists it."""

    @property
    def run(self) -> str:
        """Its number, as the journal writes it."""

    @property
    def state(self) -> str:
        """`pending`, `starting`, `running` or `finished`."""

    @property
    def outcome(self) -> str:
        """`completed`, `failed` or `stopped`; empty while it is not finished."""

    @property
    def details(self) -> str:
        """Why it ended."""


class Control(Protocol):
    """The SuperLink's Control API. Calls block; each raises EdgeflError when the SuperLink does not answer."""

    def nodes(self) -> Sequence[Node]:
        """Every registered SuperNode."""

    def runs(self) -> Sequence[FlowerRun]:
        """Every run that the SuperLink remembers."""

    def start_run(self, fab: Path, config: Mapping[str, bool | int | float | str]) -> int:
        """Start a run of the FAB and return its number."""

    def stop_run(self, run: int) -> bool:
        """Stop a run; False when it was over already."""


def flower() -> Control:
    """The coordinator's own SuperLink, over loopback. Imports Flower: only the monitor's service calls this."""
    from edgefl.federation.flower import control

    return cast("Control", control)
