"""Another version on a fleet that trains: a bad one is taken back by itself, a good one stays, and no round is lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

import edgefl as package
from edgefl.fleet import signature, source
from edgefl.fleet.bundle import Bundle
from edgefl.operations import versions
from edgefl.operations.state import bundle_directory, opened
from edgefl.site import load

from .conftest import Fleet, in_background, last_object

pytestmark = pytest.mark.e2e
MARGINS = "\nupgrade:\n  rounds: 1\n  loss_margin: 9\n  time_margin: 9\n"
"""Rounds of a few seconds on a busy machine say little about how long rounds take."""
BROKEN = '\nraise RuntimeError("this release does not start")\n'


def release(fleet: Fleet, place: Path, module: str, more: str) -> Bundle:
    """A signed bundle of edgefl's code with something more at the end of a module; all else is as hosts have it."""
    site = load(fleet.directory)
    code = place / "code" / "edgefl"
    shutil.copytree(Path(package.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    with (code / module).open("a") as file:
        file.write(more)
    made = place / "bundle"
    shutil.copytree(bundle_directory(site), made, copy_function=os.link)
    packed = source.pack(code)
    for name, content in (("app/edgefl.tar.gz", packed.archive), ("manifest.json", b"")):
        (made / name).unlink()
        (made / name).write_bytes(content)
    about = Bundle.load(bundle_directory(site)).manifest()
    about |= {
        "app_hash": packed.sha256,
        "files": {**about["files"], "app/edgefl.tar.gz": hashlib.sha256(packed.archive).hexdigest()},
    }
    (made / "manifest.json").write_text(json.dumps(about))
    (made / "manifest.sig").unlink()
    bundle = Bundle.load(made)
    signature.sign(bundle, opened(site))
    return bundle


def in_use(fleet: Fleet) -> dict[str, str]:
    """The release that each host runs."""
    hosts = ["coordinator", *(device.name for device in load(fleet.directory).devices)]
    return {host: fleet.on(host, "readlink", "/opt/edgefl/current").stdout.strip() for host in hosts}


def test_a_bad_version_is_taken_back_and_a_good_one_stays_while_no_round_is_lost(fleet: Fleet, tmp_path: Path) -> None:
    site, before = load(fleet.directory), in_use(fleet)
    bad = release(fleet, tmp_path / "bad", "federation/client.py", BROKEN)
    good = release(fleet, tmp_path / "good", "federation/client.py", "\n# another release\n")
    site_file = fleet.directory / "site.yaml"
    said = site_file.read_text()
    assert said.count("\nupgrade:\n") == 1
    site_file.write_text(said.replace("\nupgrade:\n", MARGINS))

    with in_background("run", "--site", str(fleet.directory), "--rounds", "60", "--json"):
        fleet.await_round(2)
        refused = fleet.edgefl("upgrade", "--to", str(bad.path), "--json")
        assert refused.returncode == 34, refused.stdout[-3000:]
        assert "this release does not start" in last_object(refused)["what"]
        assert in_use(fleet) == before

        with in_background("upgrade", "--site", str(fleet.directory), "--to", str(good.path), "--canary", "4", "--json") as going:
            assert going.stdout
            assert any('"coordinator"' in line and "waits for the end of run" in line for line in going.stdout)
            devices = {host: where for host, where in in_use(fleet).items() if host != "coordinator"}
            assert set(devices.values()) == {f"releases/{good.app_hash}"}
            assert in_use(fleet)["coordinator"] == before["coordinator"], "the run goes on there"
            assert fleet.edgefl("stop", "--json").returncode == 0
            last = going.stdout.read().splitlines()[-1]
            assert going.wait(timeout=120) == 0, last
    assert set(in_use(fleet).values()) == {f"releases/{good.app_hash}"}
    rounds = last_object(fleet.edgefl("rounds", "--json"))["rounds"]
    assert [row["number"] for row in rounds if row["state"] == "skipped"] == []
    assert [row["number"] for row in rounds] == list(range(1, len(rounds) + 1))

    site_file.write_text(said)
    assert fleet.edgefl("rollback", "--json").returncode == 0
    assert in_use(fleet) == before
    versions.release(site)
