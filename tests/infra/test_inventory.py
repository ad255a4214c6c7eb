"""Terraform's outputs and the site, joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgefl.infra.inventory import Inventory, InventoryMismatch, inventory_from
from edgefl.infra.workdir import variables
from edgefl.site.model import Site

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-02"}, {"name": "edge-01"}]}).at(Path("/srv/clinic"))


def outputs(*names: str) -> dict[str, Any]:
    made = {
        name: {"ansible_host": f"10.77.0.{n + 10}", "ansible_port": 22, "ansible_user": "root", "vars": {"host_key": f"key {n}"}}
        for n, name in enumerate(names)
    }
    return {"inventory": {"version": 1, "hosts": made}}


def test_hosts_come_in_the_sites_order_with_the_labs_key_and_capsule(tmp_path: Path) -> None:
    inventory = inventory_from(outputs("coordinator", "edge-01", "edge-02"), SITE)
    assert [(host.name, host.address, host.host_key) for host in inventory.hosts] == [
        ("coordinator", "10.77.0.10", "key 0"),
        ("edge-02", "10.77.0.12", "key 2"),
        ("edge-01", "10.77.0.11", "key 1"),
    ]
    assert {host.ssh_key for host in inventory.hosts} == {"/srv/clinic/.edgefl/lab/ssh/id_ed25519"}
    assert {host.capsule for host in inventory.hosts} == {"/srv/clinic/.edgefl/lab"}
    inventory.save(tmp_path / "inventory.json")
    assert Inventory.load(tmp_path / "inventory.json") == inventory


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, "coordinator, edge-02, edge-01 not made"),
        (outputs("coordinator", "edge-01"), "edge-02 not made"),
        (outputs("coordinator", "edge-01", "edge-02", "edge-03"), "edge-03 not in site.yaml"),
    ],
)
def test_hosts_that_are_missing_or_unknown_are_named(made: dict[str, Any], said: str) -> None:
    with pytest.raises(InventoryMismatch, match=said):
        inventory_from(made, SITE)


def test_the_variables_hold_no_path_to_a_key() -> None:
    devices = [{"name": "edge-01", "address": "192.0.2.11", "ssh_key": "keys/secret"}]
    site = Site.model_validate(
        {
            "name": "clinic",
            "coordinator": {"address": "192.0.2.10"},
            "devices": devices,
            "infrastructure": {"module": "static"},
        }
    )
    assert "secret" not in str(variables(site))
