"""A fleet in memory, behind the calls that the monitor makes of a SuperLink."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgefl.errors import EdgeflError

DEVICES = ["edge-01", "edge-02", "edge-03", "edge-04"]


@dataclass
class Node:
    name: str
    state: str


@dataclass
class FlowerRun:
    run: str
    state: str = "running"
    outcome: str = ""
    details: str = ""


@dataclass
class SmallFleet:
    """A SuperLink's Control API that keeps what it was told."""

    online: set[str] = field(default_factory=lambda: set(DEVICES))
    listed: list[FlowerRun] = field(default_factory=list)
    configs: list[dict] = field(default_factory=list)
    away: bool = False

    def nodes(self):
        if self.away:
            raise EdgeflError("the SuperLink could not be asked to list its nodes")
        return [Node(name, "online" if name in self.online else "offline") for name in DEVICES]

    def runs(self):
        return self.listed

    def start_run(self, fab: Path, config) -> int:
        self.configs.append(dict(config))
        self.listed.append(FlowerRun(str(len(self.listed) + 1)))
        return len(self.listed)

    def stop_run(self, run: int) -> bool:
        found = next((one for one in self.listed if one.run == str(run)), None)
        if found is None:
            raise EdgeflError(f"the SuperLink knows no run {run}")
        was, found.state, found.outcome = found.state, "finished", "stopped"
        return was != "finished"
