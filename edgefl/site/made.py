"""Devices that a Terraform module of the operator's own decides on: site.yaml names none, `.edgefl/` keeps the last apply's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from edgefl.site.model import Device, Site

_DEVICES = TypeAdapter(list[Device])


def file(site: Site) -> Path:
    """Where they are kept: beside what else Terraform made."""
    return site.state / "devices.json"


def keep(site: Site, devices: Sequence[Device]) -> None:
    """Remember what the module made, for every command after this one."""
    path = file(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([device.model_dump(mode="json", exclude_defaults=True) for device in devices], indent=2) + "\n")
    partial.replace(path)


def joined(site: Site) -> Site:
    """The site with the devices that its module made last; without any before the first apply. `site` has been placed."""
    if not site.asks_module or not file(site).exists():
        return site
    return site.having(_DEVICES.validate_json(file(site).read_bytes()))
