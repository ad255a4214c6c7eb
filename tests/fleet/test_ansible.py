"""A playbook that is cut short ends whole: its workers, which have sessions of their own, among the rest."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from edgefl.fleet import ansible, leftovers

PLAY = """\
- name: A host that is waited for
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: It comes never
      ansible.builtin.wait_for:
        path: {gate}
        timeout: 600
"""


def processes_of(directory: Path) -> list[str]:
    """The command lines of a run's processes, told by their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{leftovers.MARK}={directory}" in (entry / "environ").read_text(errors="replace"):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.slow
async def test_nothing_of_a_run_that_is_cut_short_goes_on(tmp_path: Path) -> None:
    playbook, configuration = tmp_path / "play.yml", tmp_path / "ansible.cfg"
    playbook.write_text(PLAY.format(gate=tmp_path / "never"))
    configuration.touch()
    arguments = {"playbook": str(playbook), "inventory": "localhost,"}
    async with asyncio.timeout(120), aclosing(ansible._events(tmp_path / "runner", configuration, arguments)) as events:
        async for event in events:
            if event["event"] == "runner_on_start":
                break
        while not any("wait_for" in line for line in processes_of(tmp_path)):  # noqa: ASYNC110  # /proc tells nobody
            await asyncio.sleep(0.05)
    assert processes_of(tmp_path) == []


def test_what_another_run_started_is_left_alone(tmp_path: Path) -> None:
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {leftovers.MARK: str(tmp_path / "one")})
    try:
        leftovers.end(tmp_path / "on")
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        leftovers.end(tmp_path / "one")
        assert os.waitpid(child, os.WNOHANG)[0] == child
    except BaseException:
        os.kill(child, 9)
        raise
