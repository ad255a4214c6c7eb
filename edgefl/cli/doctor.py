"""`edgefl doctor`: what ails a host, from the wire up to its services, and a device's way to its coordinator."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from edgefl.cli.output import Output
    from edgefl.fleet.bundle import Bundle
    from edgefl.fleet.finding import Finding
    from edgefl.infra.inventory import Host, Inventory
    from edgefl.site.model import Site

SITE = True
_EPILOG = """\
examples:
  edgefl doctor               every host
  edgefl doctor edge-03       one device: from here to it, from it to the coordinator, and the verdict
  edgefl doctor --json        every check with its verdict and fix

exit codes: 0 healthy · 2 no such host · 14 nothing is provisioned · 32 the bundle is damaged
            70 something is wrong, with its fix
"""
_SIGNS = {"good": "[green]✔[/]", "bad": "[red]✖[/]", "skipped": "[dim]·[/]"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="hosts to look at (default: all)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Examine the hosts side by side; show every check."""
    from dataclasses import asdict

    from edgefl.fleet.bundle import Bundle
    from edgefl.fleet.doctor import verdict
    from edgefl.fleet.hosts import select
    from edgefl.operations.state import bundle_directory, inventory_of
    from edgefl.site import load

    site = load(args.site)
    inventory = inventory_of(site)
    chosen = select(inventory, args.hosts)
    bundle = Bundle.load(bundle_directory(site)) if bundle_directory(site).is_dir() else None
    examined = await asyncio.gather(*(_examine(host, site, inventory, bundle) for host in chosen))
    found = [finding for findings in examined for finding in findings]
    verdicts = {host.name: verdict(findings) for host, findings in zip(chosen, examined, strict=True)}
    said = {name: asdict(cause) for name, cause in verdicts.items() if cause is not None}
    shown = _table(list(zip(chosen, examined, strict=True)), show_all=len(chosen) == 1)
    out.result({"healthy": not said, "verdicts": said, "findings": [asdict(finding) for finding in found]}, shown)
    return ExitCode.DEGRADED if said else ExitCode.OK


async def _examine(host: Host, site: Site, inventory: Inventory, bundle: Bundle | None) -> list[Finding]:
    from functools import partial

    from edgefl.fleet import registration
    from edgefl.fleet.doctor import examine
    from edgefl.operations.enrol import heard

    asked = partial(registration.ask, inventory.coordinator)
    examined = examine(host, site, inventory.coordinator, bundle, asked, heard=partial(heard, site))
    return [finding async for finding in examined]


def _table(examined: list[tuple[Host, list[Finding]]], *, show_all: bool) -> Table:
    """Each check of one host and the verdict; of many hosts, the bad ones and a line for every host without any."""
    from rich.table import Table

    from edgefl.cli.output import safe
    from edgefl.fleet.doctor import verdict

    table = Table.grid(padding=(0, 1))
    for host, own in examined:
        cause = verdict(own)
        if not show_all and cause is None:
            table.add_row(_SIGNS["good"], f"[bold]{host.name}[/]", f"{len(own)} checks are good")
        for finding in own if show_all else [finding for finding in own if finding.verdict == "bad"]:
            table.add_row(_SIGNS[finding.verdict], f"[bold]{finding.host}[/] {finding.check}", safe(finding.found))
            if finding.verdict == "bad" and finding.fix:
                table.add_row("", "", f"[bold]next: {safe(finding.fix)}[/]")
        if show_all and cause is not None:
            table.add_row("", "", "")
            table.add_row(_SIGNS["bad"], "[bold]verdict[/]", safe(f"{cause.host}: {cause.check}: {cause.found}"))
            table.add_row("", "", f"[bold]next: {safe(cause.fix)}[/]")
    return table
