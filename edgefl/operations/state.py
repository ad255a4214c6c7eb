"""Where an operation keeps what it made, and how it says that there is nothing yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import NotProvisioned
from edgefl.infra.inventory import Inventory
from edgefl.pki import register
from edgefl.pki.register import Entry, Register
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.pki.authority import Authority

PASSPHRASE = "EDGEFL_PASSPHRASE"  # noqa: S105  # the variable's name, not a passphrase


def inventory_file(site: Site) -> Path:
    """The hosts that exist."""
    return site.state / "inventory.json"


def bundle_directory(site: Site) -> Path:
    """What hosts are sent."""
    return site.state / "bundle"


def opened(site: Site) -> Authority:
    """The site's own authority. Raises PkiError when its keys do not open."""
    from edgefl.pki.authority import Authority

    return Authority.open(site.state, site=site, passphrase=passphrase())


def inventory_of(site: Site) -> Inventory:
    """The hosts that exist. Raises NotProvisioned before the first `up`."""
    try:
        return Inventory.load(inventory_file(site))
    except FileNotFoundError:
        raise NotProvisioned(f"{site.name} has no hosts yet", hint="edgefl up") from None


def known_hosts(site: Site) -> Inventory:
    """The hosts that exist; none before the first `up`."""
    return Inventory.load(inventory_file(site)) if inventory_file(site).exists() else Inventory(())


def kept_out(site: Site) -> dict[str, Entry]:
    """The site's devices that are in quarantine, in its order, each with the certificate that was revoked and why.

    The authority's register is the one place that says so; the journal repeats it.
    """
    found = register.kept_out(Register(site.state / "pki" / "index.jsonl").entries())
    return {device.name: found[device.name] for device in site.devices if device.name in found}


def passphrase() -> str | None:
    """What opens the authority's keys where they are encrypted; it comes from the environment and goes nowhere else."""
    return os.environ.get(PASSPHRASE) or None
