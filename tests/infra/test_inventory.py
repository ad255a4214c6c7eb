"""Terraform's outputs and the site, joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgefl.infra.inventory import Inventory, InventoryMismatch, inventory_from, made_devices, prospective
from edgefl.infra.workdir import variables
from edgefl.site.host import Watcher
from edgefl.site.model import Infrastructure, Observability, Site

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


ASKING = Site.model_validate({"name": "clinic", "infrastructure": {"module": "own", "source": "./m"}}).at(Path("/srv/clinic"))


def test_a_module_says_which_devices_there_are_and_what_they_are() -> None:
    made = outputs("edge-02", "coordinator", "edge-01")
    made["inventory"]["hosts"]["edge-01"]["vars"] |= {"data": "/srv/records", "epsilon_limit": 2.5, "ward": "north"}
    first, second = made_devices(made, ASKING)
    assert (first.name, str(first.data), first.epsilon_limit, first.host_key) == ("edge-01", "/srv/records", 2.5, "key 2")
    assert (second.name, second.data) == ("edge-02", None)
    inventory = inventory_from(made, ASKING.having([first, second]))
    assert (inventory.hosts[0].name, inventory.hosts[0].role) == ("coordinator", "coordinator")
    assert list(variables(ASKING.having([first]))["devices"]) == ["coordinator"], "a module is not told what it said itself"
    assert prospective(ASKING, Inventory(())) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [(["coordinator"], "the module made none"), (["coordinator", "Edge_1"], "Edge_1 is no device: name: String should match")],
)
def test_a_module_whose_devices_could_not_be_a_sites_is_told(names: list[str], said: str) -> None:
    with pytest.raises(InventoryMismatch, match=said):
        made_devices(outputs(*names), ASKING)


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


def test_lab_hosts_that_are_missing_are_foreseen_where_they_would_be_made() -> None:
    known = inventory_from(outputs("coordinator", "edge-01", "edge-02"), SITE)
    lacking = Inventory(tuple(host for host in known.hosts if host.name != "edge-02"))
    foreseen = prospective(SITE, lacking)
    assert foreseen is not None
    assert [host.name for host in foreseen.hosts] == ["coordinator", "edge-02", "edge-01"]
    assert foreseen.host("edge-01") == known.host("edge-01")
    made = foreseen.host("edge-02")
    assert (made.address, made.capsule, made.host_key) == ("10.77.0.11", "/srv/clinic/.edgefl/lab", None)
    smaller = SITE.model_copy(update={"devices": SITE.devices[:1]}).at(SITE.root)
    assert [host.name for host in (prospective(smaller, known) or known).hosts] == ["coordinator", "edge-02"]


def test_adopted_hosts_are_where_site_yaml_has_them_now() -> None:
    def site(address: str) -> Site:
        device = {"name": "edge-01", "address": address, "host_key": "key"}
        return Site.model_validate({
            "name": "clinic", "coordinator": {"address": "192.0.2.10"}, "devices": [device],
            "infrastructure": {"module": "static"},
        })  # fmt: skip

    before = prospective(site("192.0.2.11"), Inventory(()))
    assert before is not None
    moved = prospective(site("192.0.2.99"), before)
    assert moved is not None
    assert [(host.address, host.host_key) for host in moved.devices] == [("192.0.2.99", "key")]


def test_what_a_module_of_ones_own_has_not_made_yet_cannot_be_foreseen() -> None:
    own = Site.model_validate(
        {"name": "clinic", "devices": [{"name": "edge-01"}], "infrastructure": {"module": "own", "source": "./m"}}
    )
    assert prospective(own, Inventory(())) is None
    known = prospective(SITE, Inventory(()))
    assert known is not None
    assert prospective(own, known) == Inventory(tuple(host for host in known.hosts if host.name != "edge-02"))


WATCHED = SITE.model_copy(update={"observability": Observability(prometheus=True, host=Watcher(name="watch"))})


def test_the_host_that_watches_is_made_with_the_others_and_stands_last() -> None:
    inventory = inventory_from(outputs("coordinator", "edge-01", "watch", "edge-02"), WATCHED)
    assert [host.role for host in inventory.hosts] == ["coordinator", "device", "device", "watcher"]
    assert inventory.watcher == inventory.host("watch")
    assert inventory_from(outputs("coordinator", "edge-01", "edge-02"), SITE).watcher is None
    with pytest.raises(InventoryMismatch, match="watch not made"):
        inventory_from(outputs("coordinator", "edge-01", "edge-02"), WATCHED)
    told = variables(WATCHED)["devices"]["watch"]
    assert (told["role"], told["address"], told["preloaded"]) == ("watcher", "10.77.0.9", False)


def test_a_module_of_ones_own_is_asked_for_the_host_that_watches_and_makes_no_device_of_it() -> None:
    asked = WATCHED.model_copy(update={"devices": [], "infrastructure": Infrastructure(module="own", source=Path("/m"))})
    assert {name: host["role"] for name, host in variables(asked)["devices"].items()} == {
        "coordinator": "coordinator", "watch": "watcher",
    }  # fmt: skip
    assert [device.name for device in made_devices(outputs("coordinator", "edge-01", "watch"), asked)] == ["edge-01"]
