"""Terraform, edgefl's provider and the real lab: hosts that boot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edgefl.infra.inventory import inventory_from
from edgefl.infra.terraform import Terraform
from edgefl.lab.hosts import Lab
from edgefl.lab.reach import dial
from edgefl.progress import Finished
from edgefl.site import load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SITE = """\
name: clinic
coordinator: {limits: {memory_mb: 512}}
devices:
  - {name: edge-01, limits: {cpu: 0.5, memory_mb: 512}}
"""


async def done(events) -> dict[str, str]:
    """What was done to which host."""
    return {event.subject: event.what async for event in events if isinstance(event, Finished) and event.subject}


async def test_lab_hosts_are_booted_found_dead_booted_again_and_removed(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    site = load(tmp_path)
    terraform = Terraform(site)
    lab = Lab(site.state / "lab", site.infrastructure.network)
    try:
        assert await done(terraform.apply()) == {"coordinator": "created", "edge-01": "created"}
        inventory = inventory_from(await terraform.outputs(), site)
        for host in inventory.hosts:
            assert host.capsule is not None
            with dial(Path(host.capsule), host.address, host.port) as connection:
                assert connection.recv(4) == b"SSH-"
            assert host.host_key in lab.known_hosts.read_text()
            assert host.ssh_key == str(lab.key)
        assert await done(terraform.apply()) == {}

        await asyncio.to_thread(lab.kill, "edge-01")
        assert await done(Terraform(site).apply()) == {"edge-01": "changed"}
        with dial(lab.root, "10.77.0.11", 22) as connection:
            assert connection.recv(4) == b"SSH-"

        assert await done(Terraform(site).destroy()) == {"coordinator": "removed", "edge-01": "removed"}
        assert lab.hosts() == []
    finally:
        await asyncio.to_thread(lab.down)
