"""One small federation for what happens to a fleet after its first day: provisioned once, left by each test as it was found."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgefl.site import load

from ..conftest import Demo, edgefl, last_object, until


@dataclass(frozen=True)
class Fleet(Demo):
    """A lab site of a coordinator and four devices, `edge-01` to `edge-04`. A test leaves it provisioned and without a run."""

    def round(self) -> int:
        """The last round that the monitor knows of in the current run; 0 before the first."""
        return int(last_object(self.edgefl("status", "--json"))["round"])

    def await_round(self, number: int, deadline_s: float = 120) -> None:
        """Wait until the run has come to this round."""
        until(lambda: self.round() >= number, f"round {number}", deadline_s)


def give_data(directory: Path) -> None:
    """Each device its own few images, so that rounds are short and every one is charged."""
    make = [sys.executable, "-m", "edgefl.lab.data", "--task", "images", "--devices", "4", "--records", "600"]
    subprocess.run([*make, "--out", str(directory / "data")], check=True, capture_output=True)
    path = directory / "site.yaml"
    path.write_text(re.sub(r"- name: (edge-\d+)", r"- name: \1\n    data: data/\1", path.read_text()))
    assert [device.name for device in load(directory).devices if device.data] == [f"edge-0{number}" for number in range(1, 5)]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory: Path = tmp_path_factory.mktemp("life") / "site"
    made = edgefl("init", str(directory), "--name", "life", "--devices", "4", "--json")
    assert made.returncode == 0, made.stderr
    give_data(directory)
    try:
        said = edgefl("up", "--site", str(directory), "--json", timeout_s=1200)
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
        yield Fleet(directory, said)
    finally:
        gone = edgefl("down", "--site", str(directory), "--yes", "--json")
    assert gone.returncode == 0, gone.stdout[-3000:] + gone.stderr
