"""The role preflight by plain ansible-playbook, as real devices have it, on servers that see this machine in another state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgefl.fleet import ansible
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.model import Device, Infrastructure, Site
from tests.integration.fleet.conftest import serving

PLAY = """\
- name: Every host is fit
  hosts: edgefl_coordinators:edgefl_devices
  gather_facts: false
  roles:
    - role: preflight
      vars: {preflight_record: ""}
"""
NO_PYTHON = """mkdir /run/bin && mount --bind /usr/bin /run/bin && mount -t tmpfs tmpfs /usr/bin
/run/bin/ln -s /run/bin/* /usr/bin/ && rm /usr/bin/python3
"""
NOTHING_FREE = """small_tmp 1m
for place in /var/tmp /root; do mount -t tmpfs -o size=1m tmpfs $place; done
head -c 8192 /dev/zero >/tmp/last
for place in /tmp /var/tmp /root; do cat /dev/zero 2>/dev/null >$place/full || test -s $place/full; done
"""
LITTLE_FREE = f"{NOTHING_FREE}rm /tmp/last\n"


@dataclass(frozen=True)
class Package:
    """Nothing of it is put anywhere: the play ends with the look at hosts."""

    path: Path = Path("/nowhere")
    deps_hashes: Mapping[str, str] = field(default_factory=dict)
    app_hash: str = ""
    fab_sha256: str = ""


@pytest.mark.slow
async def test_hosts_that_can_run_nothing_are_named_each_with_its_reason(sshd_program: Path, tmp_path: Path) -> None:
    """What this machine itself lacks of a fit host is said as well, so nothing goes on, whatever the site says."""
    setups = {"coordinator": "", "edge-01": NO_PYTHON, "edge-02": NOTHING_FREE, "edge-03": LITTLE_FREE}
    devices = [Device(name=name) for name in list(setups)[1:]]
    site = Site(name="t", devices=devices, infrastructure=Infrastructure(module="static"))
    site._root = tmp_path
    (tmp_path / "play.yml").write_text(PLAY)
    with ExitStack() as servers:
        made: list[Host] = []
        for name, setup in setups.items():
            (tmp_path / name).mkdir()
            host = servers.enter_context(serving(sshd_program, tmp_path / name, setup))
            made.append(replace(host, name=name, role="coordinator" if name == "coordinator" else "device"))
        with pytest.raises(ansible.HostsUnfit) as unfit:
            _ = [event async for event in ansible.converge(site, Inventory(tuple(made)), Package(), str(tmp_path / "play.yml"))]
    lines = unfit.value.what.splitlines()
    assert "edge-01: has no Python 3 at /usr/bin/python3: install it (Debian: python3-minimal)" in lines
    for device in ("edge-02", "edge-03"):
        assert f"{device}: has a full disk: nothing can be written there" in lines
