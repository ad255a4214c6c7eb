"""The hosts that exist, as Terraform's outputs name them, joined with what the site says about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgefl.errors import EdgeflError, ExitCode
from edgefl.site.addresses import assign
from edgefl.site.host import HostBase, Role
from edgefl.site.model import Device, Site


@dataclass(frozen=True, slots=True)
class Host:
    """One host that exists and can be reached.

    capsule: directory of the lab whose network the host lives in; None for a host on a real network.
    host_key: public SSH host key, `ssh-ed25519 AAAA…`; None when the operator's known_hosts has it.
    """

    name: str
    role: Role
    address: str
    port: int
    user: str
    ssh_key: str | None = None
    host_key: str | None = None
    capsule: str | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every host of a site, the coordinator first, and last the one that watches, where there is one."""

    hosts: tuple[Host, ...]

    @property
    def coordinator(self) -> Host:
        """The host that coordinates."""
        return next(host for host in self.hosts if host.role == "coordinator")

    @property
    def devices(self) -> tuple[Host, ...]:
        """The devices, in the site's order."""
        return tuple(host for host in self.hosts if host.role == "device")

    @property
    def watcher(self) -> Host | None:
        """The host that watches; None where the coordinator does, or nobody."""
        return next((host for host in self.hosts if host.role == "watcher"), None)

    def host(self, name: str) -> Host:
        """The host of that name; KeyError when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def save(self, path: Path) -> None:
        """Write as JSON, readable by the operator alone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"version": 1, "hosts": [asdict(host) for host in self.hosts]}, indent=2) + "\n")
        path.chmod(0o600)

    @classmethod
    def load(cls, path: Path) -> Inventory:
        """Read what `save` wrote; FileNotFoundError when there is none."""
        data: Mapping[str, Any] = json.loads(path.read_text())
        return cls(tuple(Host(**host) for host in data["hosts"]))


class InventoryMismatch(EdgeflError):
    """What Terraform made is not what the site names."""

    exit_code = ExitCode.NOT_PROVISIONED


def inventory_from(outputs: Mapping[str, Any], site: Site) -> Inventory:
    """Join what Terraform made (the values of its outputs) with what the site says about it.

    Raises InventoryMismatch when a host of the site was not made, or one exists that the site does not name, naming them.
    """
    made = _made(outputs)
    named = [host.name for host in site.hosts]
    missing, unknown = [name for name in named if name not in made], [name for name in made if name not in named]
    if missing or unknown:
        said = [f"{', '.join(missing)} not made"] if missing else []
        said += [f"{', '.join(unknown)} not in site.yaml"] if unknown else []
        raise InventoryMismatch(f"the hosts that exist are not the site's: {'; '.join(said)}", hint="edgefl up")
    lab = site.state / "lab" if site.infrastructure.module == "lab" else None
    return Inventory(tuple(_joined(host, made[host.name], lab) for host in site.hosts))


def made_devices(outputs: Mapping[str, Any], site: Site) -> list[Device]:
    """The devices that the operator's module made, by name: every host but the coordinator and the one that watches.

    What else site.yaml may say of a device, its `vars` may: `data`, `epsilon_limit` and the like. Raises InventoryMismatch when
    there is none, or one is no device that a site could have.
    """
    devices: list[Device] = []
    asked_for = {site.coordinator.name, *([site.watcher.name] if site.watcher else [])}
    for name, host in sorted(_made(outputs).items()):
        if name in asked_for:
            continue
        said = {key: value for key, value in host.get("vars", {}).items() if key in Device.model_fields and value is not None}
        try:
            devices.append(Device.model_validate({**said, "name": name}))
        except ValidationError as error:
            problem = error.errors()[0]
            what = f"the module's host {name} is no device: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            raise InventoryMismatch(what, hint="change what the module's `inventory` says of it, then edgefl up") from error
    if not devices:
        raise InventoryMismatch(
            "site.yaml names no devices, and the module made none", hint="see docs/real-devices.md for what `inventory` holds"
        )
    return devices


def prospective(site: Site, known: Inventory) -> Inventory | None:
    """The hosts that `up` would work on: adopted ones where site.yaml has them, others as they are known or would be made.

    None when an address cannot be told before Terraform has made the host.
    """
    if not site.devices:
        return None
    module, there = site.infrastructure.module, {host.name: host for host in known.hosts}
    addresses = assign(site) if module == "lab" else {host.name: host.address for host in site.hosts if host.address is not None}
    lab = site.state / "lab" if module == "lab" else None
    hosts = []
    for host in site.hosts:
        if module != "static" and host.name in there:
            hosts.append(there[host.name])
        elif host.name in addresses:
            made = {"ansible_host": str(addresses[host.name]), "ansible_port": host.ssh_port, "ansible_user": host.ssh_user}
            hosts.append(_joined(host, {**made, "vars": {"host_key": host.host_key}}, lab))
        else:
            return None
    return Inventory(tuple(hosts))


def _made(outputs: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return (outputs.get("inventory") or {}).get("hosts") or {}


def _joined(host: HostBase, made: Mapping[str, Any], lab: Path | None) -> Host:
    key = lab / "ssh" / "id_ed25519" if lab else host.ssh_key
    return Host(
        name=host.name,
        role=host.role,
        address=made["ansible_host"],
        port=int(made["ansible_port"]),
        user=made["ansible_user"],
        ssh_key=str(key) if key else None,
        host_key=made["vars"].get("host_key"),
        capsule=str(lab) if lab else None,
    )
