"""The roles' templates, rendered as Ansible renders them, and the programs that roles bring."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from jinja2 import Environment, FileSystemLoader
from ruamel.yaml import YAML

from edgefl.infra.inventory import Host, Inventory
from edgefl.share import share
from edgefl.site.isolation import Allowance


def role_program(role: str, name: str) -> ModuleType:
    """A program that a role puts on hosts, as a module."""
    spec = importlib.util.spec_from_file_location(name, share("playbooks") / "roles" / role / "files" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rendered(role: str, template: str, **variables: Any) -> str:
    """A template of a role with the role's defaults and these variables."""
    place = share("playbooks") / "roles" / role
    templates = Environment(
        loader=FileSystemLoader(place / "templates"), trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    templates.tests["search"] = lambda value, pattern: re.search(pattern, value) is not None  # Ansible's own test
    templates.filters |= {  # Ansible's own filters
        "combine": lambda one, other: {**one, **other},
        "from_json": json.loads,
        "to_nice_json": lambda value: json.dumps(value, indent=4, sort_keys=True),
    }
    return templates.get_template(template).render(YAML(typ="safe").load(place / "defaults" / "main.yml"), **variables)


def ruleset(
    host: Host,
    inventory: Inventory,
    operators: Iterable[str],
    allowed: Iterable[Allowance] = (),
    *,
    tunnel: Mapping[str, Any] | None = None,
) -> str:
    """A host's walls. tunnel: all that a host is told of a site that has one."""
    walls = {
        "isolation_operator_addresses": list(operators),
        "isolation_coordinator_address": inventory.coordinator.address,
        "isolation_device_addresses": [device.address for device in inventory.devices],
        "isolation_allowances": [one.model_dump(mode="json") for one in allowed],
    }
    further = {name: value for name, value in (tunnel or {}).items() if name.startswith("isolation_")}
    return rendered("isolation", f"{host.role}.nft.j2", **{**walls, **further})
