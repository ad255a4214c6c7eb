"""Bring a run's model to the operator's machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgefl.errors import EdgeflError, ExitCode
from edgefl.infra.inventory import Inventory
from edgefl.site.model import Site

_SIZE_MB = 2048
_LINK_MB_S = 1.0
"""The slowest link for which a model still arrives in time."""


class ModelDamaged(EdgeflError):
    """What arrived is not the model that the journal names."""

    exit_code = ExitCode.RUN_FAILED


async def fetch_model(site: Site, inventory: Inventory, run: str, remote: str, sha256: str) -> Path:
    """Copy a model from the coordinator to `.edgefl/models/<run>.safetensors`, checked against the journal's hash.

    A model that is there already is left alone. Raises ModelDamaged, DeviceUnreachable.
    """
    from edgefl.fleet import ssh

    if not run.isdecimal():  # it comes from the coordinator, and becomes a file's name here
        raise ModelDamaged(f"the coordinator calls its run {run!r}, which is no number of a run", hint="edgefl status")
    path = site.state / "models" / f"{run}.safetensors"
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
        return path
    sent = await ssh.run(inventory.coordinator, ["cat", remote], timeout_s=_SIZE_MB / _LINK_MB_S)
    if sent.returncode or hashlib.sha256(sent.stdout).hexdigest() != sha256:
        why = sent.stderr.decode(errors="replace").strip() or "its SHA-256 is not the one in the journal"
        raise ModelDamaged(f"the model of run {run} cannot be fetched from {remote}: {why}", hint="edgefl logs")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(sent.stdout)
    fresh.replace(path)
    return path
