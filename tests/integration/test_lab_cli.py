"""`edgefl lab` as a user types it, without a site."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefl.lab.command import wait_until
from edgefl.lab.hosts import Lab

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
EDGEFL = [sys.executable, "-c", "from edgefl.cli.main import main; main()", "lab"]


def edgefl(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EDGEFL, *argv], cwd=directory, capture_output=True, text=True, check=False, timeout=180)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    Lab(tmp_path / ".edgefl/lab").down()


def test_hosts_are_booted_listed_reached_broken_and_removed(place: Path) -> None:
    up = edgefl(place, "up", "2", "--memory", "256", "--network", "10.79.2.1/24")
    assert up.returncode == 0, up.stderr
    assert "next: edgefl lab ssh host-01" in up.stdout
    listed = json.loads(edgefl(place, "list", "--json").stdout)["hosts"]
    assert [(host["name"], host["address"], host["running"]) for host in listed] == [
        ("host-01", "10.79.2.11", True),
        ("host-02", "10.79.2.12", True),
    ]
    assert edgefl(place, "ssh", "host-02", "hostname").stdout == "host-02\n"
    assert edgefl(place, "exec", "host-01", "sh", "-c", "exit 3").returncode == 1
    assert edgefl(place, "kill", "host-01").returncode == 0
    assert "○ off" in edgefl(place, "list").stdout
    refused = edgefl(place, "ssh", "host-01")
    assert refused.returncode == 23
    assert "next: edgefl lab start host-01" in refused.stderr
    assert edgefl(place, "start", "host-01").returncode == 0
    assert edgefl(place, "down").returncode == 0
    assert not (place / ".edgefl/lab").exists()


def test_a_host_that_is_not_there_is_named_with_those_that_are(place: Path) -> None:
    done = edgefl(place, "reboot", "host-09")
    assert done.returncode == 23
    assert "the lab has no host 'host-09'" in done.stderr


def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(place: Path) -> None:
    up = ["up", "2", "--memory", "256", "--network", "10.79.2.1/24"]
    started = subprocess.Popen([*EDGEFL, *up], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until((place / ".edgefl/lab/capsule.json").exists, "the lab's start", deadline_s=60)
    os.kill(started.pid, signal.SIGINT)
    _, error = started.communicate(timeout=30)
    assert started.returncode == 130, error
    assert "the same command goes on from here" in error
    assert edgefl(place, *up).returncode == 0


def test_ctrl_c_while_the_image_is_built_leaves_nothing_of_it(place: Path) -> None:
    cache, mounts = place / "cache", Path("/proc/self/mountinfo").read_text()
    started = subprocess.Popen(
        [*EDGEFL, "up", "1", "--network", "10.79.2.1/24"],
        cwd=place,
        env={**os.environ, "EDGEFL_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    images = cache / "images"
    begun = "*.partial/rootfs/var/lib/dpkg"
    wait_until(lambda: bool(list(images.glob(begun))), "the first packages of an image", deadline_s=300)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: all of its processes
    _, error = started.communicate(timeout=60)
    assert started.returncode == 130, error
    assert "the same command goes on from here" in error
    assert [path.name for path in images.glob("*") if path.suffix != ".lock"] == []
    building = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(cache).encode() in _read(path)]
    assert building == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""
