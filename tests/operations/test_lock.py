"""One operation at a time: whoever comes second is told who is at work, and a holder that dies leaves nothing locked."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.errors import ExitCode, Locked
from edgefl.operations.lock import site_lock
from edgefl.site import load
from edgefl.site.model import Site

HOLDER = """\
import sys
from pathlib import Path
from edgefl.operations.lock import site_lock
from edgefl.site import load

with site_lock(load(Path(sys.argv[1])), "up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}]\n")
    return load(tmp_path)


def test_the_second_is_told_who_is_at_work(site: Site) -> None:
    with site_lock(site, "up"), pytest.raises(Locked) as refused, site_lock(site, "down"):
        pass
    assert refused.value.exit_code == ExitCode.LOCKED
    assert f"`edgefl up` (process {os.getpid()}, since 20" in refused.value.what
    assert "clinic" in refused.value.what
    assert "Ctrl-C" in refused.value.hint


def test_it_is_free_again_whichever_way_the_first_ended(site: Site) -> None:
    with pytest.raises(RuntimeError), site_lock(site, "up"):
        raise RuntimeError
    with site_lock(site, "a much longer name of an operation"):
        pass
    with site_lock(site, "run"), pytest.raises(Locked, match=r"`edgefl run` \("), site_lock(site, "up"):
        pass


def test_a_lock_that_says_nothing_of_its_holder_still_holds(site: Site) -> None:
    with site_lock(site, "up"):
        (site.state / "lock").write_text("")
        with pytest.raises(Locked, match="another operation is at work"), site_lock(site, "down"):
            pass


async def test_while_one_only_waits_what_is_urgent_comes_between_and_nothing_else(site: Site) -> None:
    with site_lock(site, "upgrade") as lock:
        with pytest.raises(Locked), site_lock(site, "quarantine", urgent=True):
            pass
        async with lock.loosened():
            with pytest.raises(Locked, match=r"`edgefl upgrade` \("), site_lock(site, "up"):
                pass
            with (
                site_lock(site, "quarantine", urgent=True),
                pytest.raises(Locked, match=r"`edgefl quarantine` \("),
                site_lock(site, "certs revoke", urgent=True),
            ):
                pass
        with pytest.raises(Locked, match=r"`edgefl upgrade` \("), site_lock(site, "quarantine", urgent=True):
            pass


async def test_what_waited_goes_on_when_what_is_urgent_has_ended(site: Site) -> None:
    ended, begun = asyncio.Event(), asyncio.Event()

    async def urgent() -> None:
        with site_lock(site, "quarantine", urgent=True):
            begun.set()
            await asyncio.sleep(0)
            ended.set()

    with site_lock(site, "upgrade") as lock:
        async with asyncio.TaskGroup() as tasks:
            async with lock.loosened():
                tasks.create_task(urgent())
                await begun.wait()
            assert ended.is_set()


@pytest.mark.slow
def test_a_holder_that_is_killed_leaves_nothing_locked(site: Site) -> None:
    command = [sys.executable, "-c", HOLDER, site.root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=f"process {holder.pid}"), site_lock(site, "down"):
            pass
        holder.kill()
        holder.wait()
    with site_lock(site, "down"):
        assert (site.state / "lock").stat().st_mode & 0o777 == 0o600
