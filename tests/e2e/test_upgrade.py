"""Another version on a fleet that trains: a bad one is taken back by itself, a good one by command, and no round is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.operations import versions
from edgefl.site import load

from .conftest import DEVICES, Fleet, life

pytestmark = [pytest.mark.e2e, pytest.mark.life]
BAD = """

def answer(*_):
    return Failed(reason="this version does not train"), None
"""
"""It imports and starts, and the coordinator has its device online: only the federation tells that it is none."""


def in_use(fleet: Fleet) -> dict[str, str]:
    """The release that each host runs."""
    return {host: fleet.on(host, "readlink", "/opt/edgefl/current").stdout.strip() for host in ("coordinator", *DEVICES)}


def test_a_bad_version_is_taken_back_by_itself_and_no_round_is_lost(fleet: Fleet, tmp_path: Path) -> None:
    site, before = load(fleet.directory), in_use(fleet)
    bad = life.checkout(tmp_path, "federation/client.py", BAD)
    try:
        with fleet.training(), fleet.rounds() as seen:
            refused = life.Fleet(fleet.directory).edgefl("upgrade", good=[34], code=bad)
            assert "edge-01 took no part in round" in refused["what"]
            assert "this version does not train" in refused["what"]
            assert in_use(fleet) == before
        assert life.uncounted(seen) == []
        without = [row["number"] for row in seen if "edge-01" not in row["participants"]]
        assert without, "the canary was the bad version's only one"
        assert "was not well" in versions.held(site)
        assert "edge-01" in seen[-1]["participants"]
    finally:
        versions.release(site)


def test_a_good_version_comes_in_waves_and_goes_again_by_command_and_no_round_is_lost(fleet: Fleet, tmp_path: Path) -> None:
    site, before = load(fleet.directory), in_use(fleet)
    good = life.checkout(tmp_path, "federation/client.py", "\n# another version\n")
    operated = life.Fleet(fleet.directory)
    with fleet.training():
        with fleet.rounds() as seen:
            upgrade = operated.changing("upgrade", code=good)
            now = in_use(fleet)
            assert len({now[device] for device in DEVICES} - set(before.values())) == 1
            assert now["coordinator"] == before["coordinator"], "the run goes on there"
        assert life.uncounted(seen) == []
    operated.ended(upgrade)
    newer = in_use(fleet)
    assert set(newer.values()) == {now["edge-01"]}
    kept = fleet.on("edge-01", "ls", "/opt/edgefl/releases").stdout.split()
    assert {Path(before["edge-01"]).name, Path(newer["edge-01"]).name} <= set(kept)
    try:
        with fleet.training():
            with fleet.rounds() as seen:
                rollback = operated.changing("rollback")
                assert in_use(fleet) == {**before, "coordinator": newer["coordinator"]}
            assert life.uncounted(seen) == []
        operated.ended(rollback)
        assert in_use(fleet) == before
    finally:
        versions.release(site)
