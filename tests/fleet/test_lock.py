"""What hosts import, they have: with every other package of this machine hidden, all services still load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.fleet.wheels import WheelSpec
from edgefl.site.model import Runtime

HIDE = """
import importlib.metadata, sys
allowed = set({allowed!r})
hidden = set()
for package in importlib.metadata.packages_distributions().items():
    if not any(name.lower().replace("_", "-").replace(".", "-") in allowed for name in package[1]):
        hidden.add(package[0])
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{{name}} is not in the lock", name=name)
sys.meta_path.insert(0, Hidden())
"""
SERVICES = [
    "flwr.supercore.cli",
    "flwr.superlink.cli",
    "flwr.supernode.cli",
    "flwr.supernode.runtime.run_clientapp",
    "edgefl.federation.flower.superlink",
    "edgefl.federation.flower.superexec",
    "edgefl.federation.flower.supernode",
    "edgefl.federation.flower.register",
    "edgefl.federation.server",
    "edgefl.federation.client",
    "edgefl.federation.tasks.images",
    "edgefl.federation.tasks.hospitals",
    "edgefl.monitor.service",
]


@pytest.mark.slow
def test_every_service_loads_with_nothing_but_the_locks_packages(tmp_path: Path) -> None:
    lines = WheelSpec.of(Runtime(), Path(), "x86_64").lock.read_text().splitlines()
    allowed = ["torch", "edgefl", *(line.split("==")[0] for line in lines if "==" in line)]
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(allowed=allowed))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "FLWR_TELEMETRY_ENABLED": "0"}
    command = [sys.executable, "-c", "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]", *SERVICES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


@pytest.mark.slow
def test_what_is_not_in_the_lock_really_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(allowed=["edgefl"]))
    done = subprocess.run(
        [sys.executable, "-c", "import numpy"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "numpy is not in the lock" in done.stderr
