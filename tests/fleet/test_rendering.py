"""What Ansible is told about a site."""

from __future__ import annotations

import configparser
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgefl.fleet import rendering
from edgefl.infra.inventory import Host, Inventory
from edgefl.share import share
from edgefl.site import Site, load
from tests.walls import rendered

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4DFDVd4ofERgN3uuhtneM2PF5tbWuA4xNJnWlT0oun"


@dataclass(frozen=True)
class Package:
    path: Path = Path("/bundle")
    deps_hashes: Mapping[str, str] = field(default_factory=lambda: {"x86_64": "d" * 64})
    app_hash: str = "a" * 64
    fab_sha256: str = "f" * 64


def a_site(tmp_path: Path, extra: str = "") -> Site:
    (tmp_path / "site.yaml").write_text(
        f"name: clinic\ndevices:\n  - {{name: edge-01, epsilon_limit: 5}}\n  - {{name: edge-02}}\n{extra}"
    )
    return load(tmp_path)


def hosts(**changes: object) -> Inventory:
    values = {"port": 22, "user": "root", "ssh_key": "/lab/key", "host_key": KEY, "capsule": "/lab", **changes}
    names = [
        ("coordinator", "coordinator", "10.77.0.10"),
        ("edge-01", "device", "10.77.0.11"),
        ("edge-02", "device", "10.77.0.12"),
    ]
    return Inventory(tuple(Host(name, role, address, **values) for name, role, address in names))  # type: ignore[arg-type]


def options(command_line: str) -> dict[str, str]:
    words = shlex.split(command_line)
    return dict(option.split("=", 1) for option in words[1::2])


def test_every_host_of_the_site_is_in_the_inventory_under_its_role(tmp_path: Path) -> None:
    rendered = rendering.variables(a_site(tmp_path), hosts(), Package(), Path("/known"))["all"]["children"]

    assert list(rendered["edgefl_coordinators"]["hosts"]) == ["coordinator"]
    assert list(rendered["edgefl_devices"]["hosts"]) == ["edge-01", "edge-02"]


def test_a_host_that_does_not_exist_yet_is_named(tmp_path: Path) -> None:
    only_one = Inventory(hosts().hosts[:2])

    with pytest.raises(rendering.HostsDiffer, match="edge-02"):
        rendering.variables(a_site(tmp_path), only_one, Package(), Path("/known"))


def test_taking_edgefl_off_hosts_needs_no_bundle_and_only_the_way_to_hosts_that_exist(tmp_path: Path) -> None:
    only_one = Inventory(hosts(user="ops", ssh_key="/lab/key").hosts[:2])
    rendered = rendering.write(a_site(tmp_path), only_one, None)
    told = json.loads(rendered.inventory.read_text())["all"]
    by_role = [list(told["children"][group]["hosts"]) for group in ("edgefl_coordinators", "edgefl_devices")]

    assert by_role == [["coordinator"], ["edge-01"]]
    whole = rendering.variables(a_site(tmp_path), hosts(user="ops"), Package(), rendered.known_hosts)["all"]["children"]
    for group, children in told["children"].items():
        for name, way in children["hosts"].items():
            assert way["ansible_become"] is True
            assert way.items() <= whole[group]["hosts"][name].items()


def test_who_belongs_to_the_site_changes_no_document_that_services_start_with(tmp_path: Path) -> None:
    two = a_site(tmp_path)
    one = two.model_copy(update={"devices": two.devices[:1]})
    assert rendering.members_document(two, "coordinator")["devices"] == ["edge-01", "edge-02"]
    assert rendering.members_document(one, "coordinator") != rendering.members_document(two, "coordinator")
    assert rendering.members_document(two, "device") == {"devices": ["edge-01", "edge-02"]}, "with whom alone it sums"
    for host in hosts().hosts[:2]:
        assert rendering.host_document(one, host, hosts(), Package()) == rendering.host_document(two, host, hosts(), Package())


def test_a_device_gets_the_smaller_of_its_own_and_the_sites_epsilon_limit(tmp_path: Path) -> None:
    site = a_site(tmp_path, "privacy: {epsilon_limit: 8}\n")
    documents = [rendering.host_document(site, host, hosts(), Package()) for host in hosts().devices]

    assert [document["epsilon_limit"] for document in documents] == [5, 8]


def test_a_host_knows_the_one_app_that_it_executes(tmp_path: Path) -> None:
    assert rendering.host_document(a_site(tmp_path), hosts().devices[0], hosts(), Package())["fab_sha256"] == "f" * 64


def test_the_data_of_a_real_device_stay_where_its_owner_has_them(tmp_path: Path) -> None:
    text = """name: clinic
infrastructure: {module: static}
isolation: {operator_addresses: [192.0.2.5]}
coordinator: {address: 192.0.2.10}
devices:
  - {name: edge-01, address: 192.0.2.11, data: /home/ana/scans}
"""
    (tmp_path / "site.yaml").write_text(text)
    site = load(tmp_path)

    assert rendering.data_directory(site, site.device("edge-01")) == "/home/ana/scans"


def test_host_keys_are_always_checked_and_a_pinned_one_comes_from_the_inventory() -> None:
    given = options(rendering.ssh_options(hosts().coordinator, Path("/state/known_hosts")))

    assert given["StrictHostKeyChecking"] == "yes"
    assert given["UserKnownHostsFile"] == "/state/known_hosts"


def test_a_host_without_a_pinned_key_must_stand_in_the_operators_own_file() -> None:
    given = options(rendering.ssh_options(hosts(host_key=None).coordinator, Path("/state/known_hosts")))

    assert given["StrictHostKeyChecking"] == "yes"
    assert given["UserKnownHostsFile"] == "~/.ssh/known_hosts"


def test_a_lab_host_is_reached_through_its_capsule_and_a_real_one_directly() -> None:
    assert (
        "edgefl.lab.nsproxy '/with space' %h %p"
        in options(rendering.ssh_options(hosts(capsule="/with space").coordinator, Path()))["ProxyCommand"]
    )
    assert "ProxyCommand" not in options(rendering.ssh_options(hosts(capsule=None).coordinator, Path()))


def test_known_hosts_name_the_port_where_it_is_not_the_usual_one() -> None:
    assert rendering.known_hosts(hosts(port=2222)).splitlines()[0] == f"[10.77.0.10]:2222 {KEY}"
    assert rendering.known_hosts(hosts()).splitlines()[0] == f"10.77.0.10 {KEY}"
    assert rendering.known_hosts(hosts(host_key=None)) == ""


def test_an_account_other_than_root_becomes_root(tmp_path: Path) -> None:
    rendered = rendering.variables(a_site(tmp_path), hosts(user="ana"), Package(), Path("/known"))["all"]["children"]

    assert rendered["edgefl_devices"]["hosts"]["edge-01"]["ansible_become"] is True


def test_the_labs_operator_may_always_administer_its_hosts(tmp_path: Path) -> None:
    site = a_site(tmp_path, "isolation: {operator_addresses: [10.77.0.99]}\n")

    assert rendering.operator_addresses(site) == ["10.77.0.1", "10.77.0.99"]


ALLOWED = """isolation:
  device: [{address: 192.0.2.7, port: 11112-11115}, {address: "fd00:7::/64", port: 3142, by: host}]
  coordinator: [{address: 192.0.2.25, port: 25, protocol: udp}]
"""


def test_what_a_role_may_reach_is_told_to_its_hosts_alone(tmp_path: Path) -> None:
    groups = rendering.variables(a_site(tmp_path, ALLOWED), hosts(), Package(), Path("/known"))["all"]["children"]
    device, hub = groups["edgefl_devices"]["hosts"]["edge-02"], groups["edgefl_coordinators"]["hosts"]["coordinator"]

    assert device["isolation_allowances"] == [
        {"address": "192.0.2.7/32", "port": "11112-11115", "protocol": "tcp", "by": "task"},
        {"address": "fd00:7::/64", "port": "3142", "protocol": "tcp", "by": "host"},
    ]
    assert device["device_task_addresses"] == ["192.0.2.7/32"], "the units of the host's own services are not edgefl's"
    assert [way["port"] for way in hub["isolation_allowances"]] == ["25"]
    assert hub["coordinator_task_addresses"] == ["192.0.2.25/32"]


def test_the_executors_unit_lets_through_what_the_firewall_does_and_no_other_unit_changes() -> None:
    for role in ("device", "coordinator"):
        told = {f"{role}_document": {"data": "/srv"}, f"{role}_coordinator_address": "10.77.0.10"}
        unit = rendered(
            role, "edgefl-superexec.service.j2", **told, **{f"{role}_task_addresses": ["192.0.2.7/32", "fd00:7::/64"]}
        )
        assert "\nIPAddressAllow=localhost 192.0.2.7/32 fd00:7::/64\n" in unit
        assert "\nIPAddressAllow=localhost\n" in rendered(role, "edgefl-superexec.service.j2", **told)
        for template in (share("playbooks") / "roles" / role / "templates").glob("*.service.j2"):
            assert ("task_addresses" in template.read_text()) == (template.name == "edgefl-superexec.service.j2")


def test_a_device_that_terraform_put_where_the_site_allows_a_way_is_named(tmp_path: Path) -> None:
    moved = Inventory(tuple(replace(h, address="192.0.2.7") if h.name == "edge-02" else h for h in hosts().hosts))

    with pytest.raises(rendering.HostAllowed, match=r"isolation\.device\[0\]\.address: 192\.0\.2\.7 is edge-02"):
        rendering.variables(a_site(tmp_path, ALLOWED), moved, Package(), Path("/known"))


def test_writing_a_second_time_touches_nothing_and_nothing_is_readable_by_others(tmp_path: Path) -> None:
    site = a_site(tmp_path)
    first = rendering.write(site, hosts(), Package())
    stamps = [path.stat().st_mtime_ns for path in (first.inventory, first.configuration, first.known_hosts)]
    second = rendering.write(site, hosts(), Package())

    assert first == second
    assert stamps == [path.stat().st_mtime_ns for path in (second.inventory, second.configuration, second.known_hosts)]
    assert first.inventory.stat().st_mode & 0o077 == 0
    assert json.loads(first.inventory.read_text())["all"]["vars"]["runtime_deps_hashes"] == {"x86_64": "d" * 64}


@pytest.mark.parametrize("accelerated", [True, False])
def test_the_configuration_checks_host_keys_with_and_without_mitogen(accelerated: bool) -> None:
    parsed = configparser.ConfigParser()
    parsed.read_string(rendering.configuration(Path("/i.json"), accelerated=accelerated))

    assert parsed["defaults"]["host_key_checking"] == "True"
    assert parsed["connection"]["pipelining"] == "True"
    assert parsed["defaults"].get("strategy", "linear") == ("mitogen_linear" if accelerated else "linear")


def test_an_open_connection_is_shared_neither_with_another_site_nor_across_a_change_of_key(tmp_path: Path) -> None:
    def shared(directory: str, of: Inventory) -> dict[str, str]:
        children = rendering.reachable(of, tmp_path / directory / "known_hosts")["all"]["children"].values()
        return {name: told["ansible_control_path"] for group in children for name, told in group["hosts"].items()}

    there = hosts()
    first, *others = there.hosts
    repinned = Inventory((replace(first, host_key="ssh-ed25519 AAAAanother"), *others))
    own = shared("a", there)
    assert own == shared("a", there)
    assert len(set(own.values())) == len(there.hosts)
    assert not set(own.values()) & set(shared("b", there).values())
    assert {name for name, path in shared("a", repinned).items() if path != own[name]} == {first.name}


def test_mitogen_is_left_to_hosts_on_this_machine() -> None:
    assert not rendering.is_accelerated(hosts(capsule=None))
