"""One demo federation for all end-to-end tests: booted, provisioned and trained once by the command a user would type."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgefl.lab.hosts import Lab
from edgefl.site import load

BARE = "edge-02"
"""The device whose host begins with nothing, so that the whole bundle is pushed to it as to a real one."""


def edgefl(*argv: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user's script would."""
    command = [sys.executable, "-m", "edgefl", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)


def last_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The result of a command that ran with --json."""
    return dict(json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Demo:
    """The demo's site after its run."""

    directory: Path
    said: subprocess.CompletedProcess[str]

    @property
    def result(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / ".edgefl" / "result.json").read_text()))

    @property
    def lab(self) -> Lab:
        site = load(self.directory)
        return Lab(site.state / "lab", site.infrastructure.network)

    def edgefl(self, command: str, *argv: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        return edgefl(command, "--site", str(self.directory), *argv, timeout_s=timeout_s)

    def on(self, host: str, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a host."""
        return self.lab.execute(host, argv, timeout_s=timeout_s)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo") / "site"
    directory.mkdir()
    shipped = (Path(__file__).parents[2] / "sites" / "demo" / "site.yaml").read_text()
    line = f"name: {BARE}, data: data/{BARE}, "
    assert line in shipped
    (directory / "site.yaml").write_text(shipped.replace(line, f"{line}preloaded: false, "))
    said = edgefl("demo", str(directory), "--json", timeout_s=1800)
    try:
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
        yield Demo(directory, said)
    finally:
        edgefl("down", "--site", str(directory), "--yes")
