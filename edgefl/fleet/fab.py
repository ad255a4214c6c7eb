"""The Flower app that hosts run, built without Flower: two components of edgefl's, and the user's task.

Format: a zip with `pyproject.toml`, the files, and `.info/CONTENT` (a line `path,sha256,bits` each). Devices run a FAB only when
its SHA-256 is the one in their host.json, so it changes only when its content does: fixed dates, fixed order, no compression.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from edgefl import __version__
from edgefl.fleet.wheels import BundleUnbuildable
from edgefl.site.model import Site

MAX_BYTES = 10 * 1024 * 1024
"""Flower's limit."""
RUN_CONFIG: Mapping[str, int | float | str] = {
    "rounds": 0,
    "first-round": 0,
    "seed": 0,
    "deadline-s": 0.0,
    "quorum": 0,
    "options": "{}",
}
"""What a run may override (Flower refuses other keys); 0 means what host.json says, `options` is JSON for everything else."""
_DATE = (2024, 10, 1, 0, 0, 0)
_PUBLISHER = "edgefl"


@dataclass(frozen=True, slots=True)
class Fab:
    """The packed app and its SHA-256, by which Flower and devices know it."""

    content: bytes
    sha256: str


def pack(site: Site) -> Fab:
    """The app for this site. Raises BundleUnbuildable when the task's file is not there or the app is too large."""
    files = {"pyproject.toml": _project().encode(), **task_files(site.task.module, site.root)}
    content = [f"{path},{hashlib.sha256(data).hexdigest()},{len(data) * 8}" for path, data in files.items()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in [*files.items(), (".info/CONTENT", "\n".join(content).encode())]:
            entry = zipfile.ZipInfo(path, _DATE)
            entry.create_system = 3  # Unix, wherever it is packed
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    packed = buffer.getvalue()
    if len(packed) > MAX_BYTES:
        raise BundleUnbuildable(
            f"the task {site.task.module} has {len(packed) / 1e6:.1f} MB, and Flower takes {MAX_BYTES / 1e6:.1f}",
            hint="keep data and weights out of the task's package",
        )
    return Fab(packed, hashlib.sha256(packed).hexdigest())


def task_files(module: str, root: Path) -> dict[str, bytes]:
    """The user's task by its path in the app: a file, or all Python files of a package; nothing for a task that edgefl ships."""
    if module.endswith(".py") or module.startswith((".", "/")):
        path = (root / module).resolve()
        if not path.is_file():
            raise BundleUnbuildable(f"the task's file is not there: {path}", hint="edgefl check")
        return {path.name: path.read_bytes()}
    top = module.partition(".")[0]
    if top == "edgefl":
        return {}
    found = PathFinder.find_spec(top, [str(root)]) or PathFinder.find_spec(top)
    if found is None or found.origin is None:
        raise BundleUnbuildable(f"the task's module is not there: {module}", hint="edgefl check")
    origin = Path(found.origin)
    if found.submodule_search_locations is None:
        return {origin.name: origin.read_bytes()}
    package = origin.parent
    return {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in sorted(package.rglob("*.py"))}


def _project() -> str:
    config = "\n".join(f"{key} = {json.dumps(value)}" for key, value in RUN_CONFIG.items())
    return f"""\
[project]
name = "edgefl"
version = "{__version__}"
description = "edgefl's federation"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "{_PUBLISHER}"

[tool.flwr.app.components]
serverapp = "edgefl.federation.server:app"
clientapp = "edgefl.federation.client:app"

[tool.flwr.app.config]
{config}
"""
