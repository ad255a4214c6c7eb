"""Sites that the console's tests provision: of hosts that do not exist, so that a plan is whole and needs no root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ADOPTED = """\
name: clinic
infrastructure: {module: static}
coordinator: {name: hub, address: 192.0.2.10}
devices:
  - {name: edge-01, address: 192.0.2.11}
  - {name: edge-02, address: 192.0.2.12}
isolation: {operator_addresses: [192.0.2.1]}
"""
_TASK = """\
import os, pathlib, time
here = pathlib.Path(__file__).parent
(here / "waiting").write_text(str(os.getpid()))
while not (here / "open").exists():
    time.sleep(0.01)
def dataset(directory, parameters): ...
def model(parameters): ...
def train(model, batches, optimizer, loss, parameters): ...
def evaluate(model, batches, parameters): ...
"""


@dataclass(frozen=True, slots=True)
class Gate:
    """A site whose task does not finish being imported until the gate is opened: every operation begins with that."""

    directory: Path

    def process(self) -> int | None:
        """The process that waits at the gate."""
        try:
            return int((self.directory / "waiting").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def open(self) -> None:
        """Let everybody through."""
        (self.directory / "open").touch()


def gated(directory: Path) -> Gate:
    """Write the site and its task."""
    (directory / "site.yaml").write_text(f"{ADOPTED}task: {{module: ./task.py}}\nprivacy: {{mode: none}}\n")
    (directory / "task.py").write_text(_TASK)
    return Gate(directory)
