"""A first site.yaml whose comments are the models' own docstrings, so that they cannot grow apart."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgefl.errors import EdgeflError
from edgefl.site import schema
from edgefl.site.loading import FILE
from edgefl.site.model import Coordinator, Device, Limits, Site

Module = Literal["lab", "static", "own"]
_WIDTH = 110
_HEAD = """\
# yaml-language-server: $schema=.edgefl/site.schema.json
#
# One federation's desired state: this file is the only place where it is said.
# `#key: value` lines show defaults; remove the # to change one. Then: edgefl check && edgefl plan && edgefl up
"""
_CHOSEN: Mapping[str, tuple[str, ...]] = {
    "infrastructure": ("module",),
    "task": ("module",),
    "run": ("rounds", "quorum"),
    "privacy": ("mode", "epsilon_limit", "epsilon_per_run"),
    "aggregation": ("rule", "byzantine"),
    "compression": ("mode",),
    "secure": ("mode",),
    "certificates": ("leaf_hours",),
}
"""What most people change first: written out, though it equals the default."""
_LIMITS = ({"cpu": 1.0, "memory_mb": 1536}, {"cpu": 0.5, "memory_mb": 1024, "uplink_mbit": 20.0, "latency_ms": 20.0})
"""Alternating limits of the first lab devices: fleets are never equal."""


class SiteExists(EdgeflError):
    """There is a site.yaml already; nothing was written."""


def write(directory: Path, *, module: Module = "lab", devices: int = 4, name: str | None = None) -> list[Path]:
    """Write a commented site.yaml and a .gitignore for its working state; the files written.

    The site is named after the directory unless `name` is given. Raises SiteExists instead of overwriting.
    """
    path = directory / FILE
    if path.exists():
        raise SiteExists(f"{path} exists; it was left as it is", hint=f"edgefl check --site {directory}")
    state, ignore = directory / ".edgefl", directory / ".gitignore"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / "site.schema.json").write_text(schema.text())
        path.write_text(text(name or site_name(directory), module=module, devices=devices), encoding="utf-8")
        ignored = ignore.read_text() if ignore.exists() else ""
        if ".edgefl/" not in ignored.splitlines():
            ignore.write_text(f"{ignored.rstrip()}\n.edgefl/\n".lstrip())
    except OSError as error:
        raise EdgeflError(f"{directory} cannot hold a site: {error}") from error
    return [path, ignore]


def text(name: str, *, module: Module = "lab", devices: int = 4) -> str:
    """The commented site.yaml of a new site; it loads as it is."""
    lines = [_HEAD]
    for section, field in Site.model_fields.items():
        lines += _prose(field, "")
        if section == "name":
            lines += [f"name: {name}"]
        elif section == "coordinator":
            lines += ["coordinator:", *_settings(Coordinator, _address(module, 10))]
        elif section == "devices":
            lines += ["devices:", *_devices(module, devices)]
        elif section == "isolation" and module != "lab":
            lines += ["isolation:", *_settings(_model(field), {"operator_addresses": ["192.0.2.1"]})]
        else:
            defaults = _defaults(_model(field))
            chosen = {key: defaults[key] for key in _CHOSEN.get(section, ())}
            if section == "infrastructure":
                chosen["module"] = module
                if module == "own":
                    chosen["source"] = "./terraform"
            lines += [f"{section}:", *_settings(_model(field), chosen)]
        lines.append("")
    return "\n".join(lines)


def _devices(module: Module, count: int) -> Iterator[str]:
    """The list of devices, below the meaning of what each may say."""
    for key, field in Device.model_fields.items():
        if key != "limits" or module == "lab":
            yield f"  # {key}: {field.description}"
    if module == "lab":
        for key, field in Limits.model_fields.items():
            yield f"  #   limits.{key}: {field.description}"
    for index in range(count):
        yield f"  - name: edge-{index + 1:02}"
        for key, value in _address(module, 11 + index).items():
            yield f"    {key}: {_value(value)}"
        if module == "lab":
            limits = ", ".join(f"{key}: {_value(value)}" for key, value in _LIMITS[index % len(_LIMITS)].items())
            yield f"    limits: {{{limits}}}"


def _settings(model: type[BaseModel], chosen: Mapping[str, Any]) -> Iterator[str]:
    """A section's lines: each field below its docstring, commented out unless chosen."""
    defaults = _defaults(model)
    explained: set[type[BaseModel]] = set()
    for key, field in model.model_fields.items():
        yield from _prose(field, "  ")
        for item in _items(field) - explained:
            explained.add(item)
            yield from (f"  #   {name}: {its.description}" for name, its in item.model_fields.items())
        value = chosen.get(key, defaults[key])
        shown = "" if value is None else f" {_value(value)}"
        yield f"  {'' if key in chosen else '#'}{key}:{shown}"


def _prose(field: FieldInfo, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(field.description or "", _WIDTH)]


def _address(module: Module, place: int) -> dict[str, Any]:
    """Documentation addresses (RFC 5737) stand in until the operator writes the real ones."""
    return {"address": f"192.0.2.{place}"} if module == "static" else {}


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return model().model_dump(mode="json")


def _model(field: FieldInfo) -> type[BaseModel]:
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return field.annotation
    raise TypeError(f"{field.annotation} is no section")


def _items(field: FieldInfo) -> set[type[BaseModel]]:
    """The section that each item of a list is; none for other fields and for lists of plain values."""
    return {part for part in get_args(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)}


def _value(value: Any) -> str:
    """A value in YAML; text that could be read as a number is quoted."""
    if isinstance(value, str) and re.fullmatch(r"[a-z][\w./-]*", value) and value not in ("true", "false", "null"):
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items() if item is not None) + "}"
    return json.dumps(value, ensure_ascii=False)


def site_name(directory: Path) -> str:
    """The directory's name as a site's name, where that is possible."""
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-0123456789")
    return name[:32].rstrip("-") or "site"
