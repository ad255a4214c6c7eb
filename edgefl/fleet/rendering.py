"""The site as Ansible sees it: one inventory with every variable, the hosts' own keys, and a configuration beside them.

Pure until `write`. A plain `ansible-playbook -i .edgefl/ansible/inventory.json playbooks/site.yml` needs nothing else; no
secret is in any of it, since every key is made on its host.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Protocol

from edgefl import layout
from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import observing, tunnel
from edgefl.infra.inventory import Host, Inventory
from edgefl.share import share
from edgefl.site.addresses import tunnelled
from edgefl.site.allowances import own_hosts
from edgefl.site.host import HostBase, Role
from edgefl.site.loading import site_hash
from edgefl.site.model import Device, Site
from edgefl.site.problems import dotted

Variables = dict[str, Any]

_CONNECTION: Variables = {"ansible_python_interpreter": "/usr/bin/python3", "ansible_ssh_pipelining": True}


GROUPS: Mapping[Role, str] = {"coordinator": "edgefl_coordinators", "device": "edgefl_devices", "watcher": "edgefl_watchers"}
"""What Ansible calls the hosts of a role."""


class Release(Protocol):
    """What the playbooks need to know about a bundle."""

    @property
    def path(self) -> Path:
        """The bundle's directory on the operator's machine."""

    @property
    def deps_hashes(self) -> Mapping[str, str]:
        """By architecture, what names the virtual environment."""

    @property
    def app_hash(self) -> str:
        """Names the release of edgefl's own code."""

    @property
    def fab_sha256(self) -> str:
        """The one Flower app that devices execute."""


class HostsDiffer(EdgeflError):
    """The hosts that exist are not those that the site names."""


class HostAllowed(EdgeflError):
    """The site allows a way to one of its own hosts."""

    exit_code = ExitCode.SITE_INVALID


@dataclass(frozen=True, slots=True)
class Rendered:
    """Where the rendered files lie."""

    inventory: Path
    configuration: Path
    known_hosts: Path


def write(site: Site, inventory: Inventory, bundle: Release | None) -> Rendered:
    """Render everything into `.edgefl/ansible/`, leaving files alone whose content is already right.

    bundle: None for a playbook that puts nothing on hosts; it is told how to reach those of `inventory`, and no more.
    """
    directory = site.state / "ansible"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    rendered = Rendered(directory / "inventory.json", directory / "ansible.cfg", directory / "known_hosts")
    _write(rendered.known_hosts, known_hosts(inventory))
    known = rendered.known_hosts
    told = reachable(inventory, known) if bundle is None else variables(site, inventory, bundle, known)
    _write(rendered.inventory, json.dumps(told, indent=2) + "\n")
    _write(rendered.configuration, configuration(rendered.inventory, accelerated=is_accelerated(inventory)))
    return rendered


def variables(site: Site, inventory: Inventory, bundle: Release, known_hosts_file: Path) -> Variables:
    """The whole inventory in the shape of Ansible's YAML inventory plugin.

    Raises HostsDiffer when a host of the site does not exist, naming the missing ones, and HostAllowed.
    """
    missing = [host.name for host in site.hosts if host.name not in {host.name for host in inventory.hosts}]
    if missing:
        raise HostsDiffer(f"these hosts of the site do not exist yet: {', '.join(missing)}", hint="edgefl up")
    # Where a Terraform module chose the addresses, no check of the site could know them.
    for location, what, hint in own_hosts(site, {host.name: ip_address(host.address) for host in inventory.hosts}):
        raise HostAllowed(f"{dotted(location)}: {what}", hint=hint)
    ours = {host.name for host in site.hosts}
    hosts = {
        host.name: _host_variables(site, host, inventory, bundle, known_hosts_file)
        for host in inventory.hosts
        if host.name in ours
    }
    return {
        "all": {
            "vars": _site_variables(site, inventory, bundle),
            "children": {
                **_by_role(site.hosts, hosts),
                "edgefl_tunnelled": {"hosts": {name: {} for name in tunnelled(site)}},
                "edgefl_standing": {},  # filled by a run that finds nothing to do
            },
        }
    }


def reachable(inventory: Inventory, known_hosts_file: Path) -> Variables:
    """The inventory for taking edgefl off hosts: that needs neither a bundle nor what the site says today."""
    ways = {host.name: _connection(host, known_hosts_file) for host in inventory.hosts}
    return {"all": {"vars": _CONNECTION, "children": _by_role(inventory.hosts, ways)}}


def _by_role(hosts: Sequence[Host | HostBase], told: Mapping[str, Variables]) -> Variables:
    """A group for each role, with what its hosts are told, in their order."""
    return {
        group: {"hosts": {host.name: told[host.name] for host in hosts if host.role == role}} for role, group in GROUPS.items()
    }


def host_document(site: Site, host: Host, inventory: Inventory, bundle: Release) -> Variables:
    """`/etc/edgefl/host.json`: this host's part of the site, without any secret."""
    gate = tunnel.gate_address(site, inventory) if host.role == "device" else inventory.coordinator.address
    document: Variables = {
        "site": site.name,
        "name": host.name,
        "role": host.role,
        "coordinator": {"name": inventory.coordinator.name, "address": gate},
        "task": site.task.model_dump(mode="json"),
        "run": site.run.model_dump(mode="json"),
        "privacy": site.privacy.model_dump(mode="json"),
        "aggregation": site.aggregation.model_dump(mode="json"),
        "compression": site.compression.model_dump(mode="json"),
        "secure": site.secure.model_dump(mode="json"),
        "models": site.models.model_dump(mode="json"),
        "fab_sha256": bundle.fab_sha256,
        "data": str(layout.DATA),
        "epsilon_limit": site.privacy.epsilon_limit,
    }
    if host.role == "device":
        device = site.device(host.name)
        document["data"] = data_directory(site, device)
        document["epsilon_limit"] = min(site.privacy.epsilon_limit, device.epsilon_limit or site.privacy.epsilon_limit)
        document["epsilon_per_run"] = min(site.privacy.epsilon_per_run, device.epsilon_per_run or site.privacy.epsilon_per_run)
    return document


def members_document(site: Site, role: str) -> Variables:
    """`/etc/edgefl/members.json`: who belongs to the site, which may change while a run goes on.

    It is apart from host.json, with which services start: a device that joins or leaves restarts nobody else. Devices need it to
    refuse sums with strangers, which a coordinator that somebody took over would ask for.
    """
    members: Variables = {"devices": [device.name for device in site.devices]}
    return {"site_hash": site_hash(site), **members} if role == "coordinator" else members


def data_directory(site: Site, device: Device) -> str:
    """Where the device's data lie on the device: a lab host got a copy, a real device is told where its own are."""
    return str(device.data) if site.infrastructure.module != "lab" and device.data else str(layout.DATA)


def operator_addresses(site: Site) -> list[str]:
    """From where hosts may be administered; the lab's own operator address is always one."""
    own = [site.infrastructure.network.ip] if site.infrastructure.module == "lab" else []
    return [str(address) for address in dict.fromkeys([*own, *site.isolation.operator_addresses])]


def known_hosts(inventory: Inventory) -> str:
    """An OpenSSH known_hosts file with the pinned key of every host that has one."""
    return "".join(f"{_ssh_name(host)} {host.host_key}\n" for host in inventory.hosts if host.host_key)


def ssh_options(host: Host, known_hosts_file: Path) -> str:
    """Options that pin the host's key and, for a lab host, enter the lab's network."""
    # A host without a pinned key must stand in the operator's own file: nothing is ever trusted on first sight.
    known = str(known_hosts_file) if host.host_key else "~/.ssh/known_hosts"
    options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "ConnectTimeout=10", "ServerAliveInterval=15"]
    if host.capsule:
        proxy = shlex.join([sys.executable, "-m", "edgefl.lab.nsproxy", host.capsule, "%h", "%p"])
        options += [f"ProxyCommand={proxy}", "ProxyUseFdpass=yes"]
    return shlex.join(word for option in options for word in ("-o", option))


def is_accelerated(inventory: Inventory) -> bool:
    """Whether mitogen runs the playbooks: where it is installed, for hosts on this machine, whose CPU it spares."""
    return find_spec("ansible_mitogen") is not None and all(host.capsule for host in inventory.hosts)


def configuration(inventory: Path, *, accelerated: bool) -> str:
    """An ansible.cfg for this site; `accelerated` takes mitogen's strategy, which keeps one Python per host alive."""
    lines = ["# Rendered by edgefl; site.yaml is where to change things.", "[defaults]"]
    lines += [f"inventory = {inventory}", f"roles_path = {share('playbooks') / 'roles'}"]
    lines += [f"collections_path = {share('playbooks') / 'collections'}", "host_key_checking = True", "forks = 20"]
    lines += ["timeout = 60"]  # a small, busy device takes its time to start a Python
    lines += ["gathering = explicit", "retry_files_enabled = False", "interpreter_python = /usr/bin/python3"]
    if accelerated:
        lines += [f"strategy_plugins = {_mitogen_strategies()}", "strategy = mitogen_linear"]
    lines += ["[connection]", "pipelining = True"]
    if accelerated:  # mitogen holds its one connection itself; ssh's own sharing would outlive the run
        lines += ["[ssh_connection]", "ssh_args = -o ControlMaster=no"]
    return "\n".join(lines) + "\n"


def _site_variables(site: Site, inventory: Inventory, bundle: Release) -> Variables:
    operators = operator_addresses(site)
    gate, devices = tunnel.gate_address(site, inventory), tunnel.device_addresses(site, inventory)
    watchers = [inventory.watcher.address] if site.watcher and inventory.watcher else []
    return {
        **_CONNECTION,
        "preflight_on_failure": site.preflight.on_failure,
        "preflight_quorum": site.quorum,
        "preflight_record": str(site.state / "ansible" / "standing.json"),
        "preflight_max_clock_skew_s": site.preflight.max_clock_skew_s,
        "preflight_min_disk_mb": site.preflight.min_disk_mb,
        "preflight_min_memory_mb": site.preflight.min_memory_mb,
        "preflight_python": site.runtime.python,
        "isolation_operator_addresses": operators,
        "isolation_coordinator_address": gate,
        "isolation_device_addresses": devices,
        "isolation_dns_addresses": [str(address) for address in site.isolation.dns],
        "isolation_time_addresses": [str(address) for address in site.isolation.time_servers],
        "isolation_dhcp": site.infrastructure.module != "lab",
        "isolation_fleet_port": layout.FLEET_PORT,
        "isolation_api_port": layout.API_PORT,
        "isolation_superlink_port": layout.SUPERLINK_PORT,
        "isolation_supernode_port": layout.SUPERNODE_PORT,
        "identity_coordinator_address": gate,
        "identity_fleet_port": layout.FLEET_PORT,
        "identity_leaf_hours": site.certificates.leaf_hours,
        "identity_site_file": str(site.root / "site.yaml"),
        "identity_state_dir": str(site.state),
        "runtime_bundle": str(bundle.path),
        "runtime_authority": str(site.state / "pki"),
        "runtime_deps_hashes": dict(bundle.deps_hashes),
        "runtime_app_hash": bundle.app_hash,
        "runtime_fab_sha256": bundle.fab_sha256,
        "coordinator_fleet_port": layout.FLEET_PORT,
        "coordinator_api_port": layout.API_PORT,
        "coordinator_superlink_port": layout.SUPERLINK_PORT,
        "coordinator_allowed_addresses": [*operators, *devices, *watchers],
        "coordinator_device_addresses": devices,
        "device_coordinator": inventory.coordinator.name,
        "device_coordinator_address": gate,
    }


def _host_variables(site: Site, host: Host, inventory: Inventory, bundle: Release, known_hosts_file: Path) -> Variables:
    return {
        **_connection(host, known_hosts_file),
        "edgefl_role": host.role,
        "isolation_role": host.role,
        "isolation_allowances": [one.model_dump(mode="json") for one in site.isolation.of(host.role)],
        "isolation_ssh_port": host.port,
        "identity_role": host.role,
        "identity_address": host.address,
        "runtime_role": host.role,
        **_part(site, host, inventory, bundle),
        **observing.variables(site, host, inventory),
        **tunnel.variables(site, host, inventory),
    }


def _part(site: Site, host: Host, inventory: Inventory, bundle: Release) -> Variables:
    """What a host is told of its part in training; one that watches has none, and none of the software for it."""
    if host.role == "watcher":
        return {"runtime_deps_hashes": {}, "runtime_app_hash": "", "isolation_coordinator_address": inventory.coordinator.address}
    return {
        f"{host.role}_task_addresses": sorted({str(one.address) for one in site.isolation.of(host.role) if one.by == "task"}),
        f"{host.role}_document": host_document(site, host, inventory, bundle),
        f"{host.role}_members": members_document(site, host.role),
    }


def _connection(host: Host, known_hosts_file: Path) -> Variables:
    found: Variables = {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": host.user,
        "ansible_become": host.user != "root",
        "ansible_ssh_common_args": ssh_options(host, known_hosts_file),
        "ansible_control_path": f"%(directory)s/{_shared_connection(host, known_hosts_file)}",
    }
    if host.ssh_key:
        found["ansible_ssh_private_key_file"] = host.ssh_key
    return found


def _shared_connection(host: Host, known_hosts_file: Path) -> str:
    """The name of the connection that ssh leaves open for a minute, for Ansible's next task to share.

    Left to itself Ansible names it by address, port and account alone. The connection to another site's host at the same
    address, or one from before another host key was pinned, would then be taken without a look at the key.
    """
    return sha256(f"{known_hosts_file} {host}".encode()).hexdigest()[:12]


def _ssh_name(host: Host) -> str:
    if host.port != 22:
        return f"[{host.address}]:{host.port}"
    return str(IPv6Address(host.address)) if ip_address(host.address).version == 6 else host.address


def _mitogen_strategies() -> Path:
    spec = find_spec("ansible_mitogen")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("ansible_mitogen")
    return Path(spec.origin).parent / "plugins" / "strategy"


def _write(path: Path, content: str) -> None:
    if path.exists() and path.read_text() == content:
        return
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.touch(mode=0o600)
    fresh.write_text(content)
    fresh.replace(path)


def read_inventory(path: Path) -> Mapping[str, Any]:
    """What `write` rendered, as data."""
    data: Mapping[str, Any] = json.loads(path.read_text())
    return data
