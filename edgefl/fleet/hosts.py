"""The hosts that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from edgefl.errors import EdgeflError, ExitCode
from edgefl.infra.inventory import Host, Inventory


class HostUnknown(EdgeflError):
    """The site has no host of that name."""

    exit_code = ExitCode.USAGE


def select(inventory: Inventory, names: Sequence[str]) -> tuple[Host, ...]:
    """The named hosts in the inventory's order, all of them when none is named. Raises HostUnknown with the nearest name."""
    known = [host.name for host in inventory.hosts]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise HostUnknown(
                f"there is no host {name}", hint=f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
            )
    return tuple(host for host in inventory.hosts if not names or host.name in names)
