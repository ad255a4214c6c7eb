"""`edgefl doctor`: what ails a host, from the wire up to its services."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from edgefl.cli.output import Output
    from edgefl.fleet.bundle import Bundle
    from edgefl.fleet.doctor import Finding
    from edgefl.infra.inventory import Host
    from edgefl.site.model import Site

SITE = True
_EPILOG = """\
examples:
  edgefl doctor               every host
  edgefl doctor edge-03       one device, from the wire up
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
    from edgefl.fleet.hosts import select
    from edgefl.operations.state import bundle_directory, inventory_of
    from edgefl.site import load

    site = load(args.site)
    chosen = select(inventory_of(site), args.hosts)
    bundle = Bundle.load(bundle_directory(site)) if bundle_directory(site).is_dir() else None
    examined = await asyncio.gather(*(_examine(host, site, bundle) for host in chosen))
    found = [finding for findings in examined for finding in findings]
    bad = [finding for finding in found if finding.verdict == "bad"]
    out.result({"healthy": not bad, "findings": [asdict(finding) for finding in found]}, _table(found, show_all=len(chosen) == 1))
    return ExitCode.DEGRADED if bad else ExitCode.OK


async def _examine(host: Host, site: Site, bundle: Bundle | None) -> list[Finding]:
    from edgefl.fleet.doctor import examine

    return [finding async for finding in examine(host, site, bundle)]


def _table(found: list[Finding], *, show_all: bool) -> Table:
    """Each check of one host; of many hosts, the bad ones and a line for every host without any."""
    from rich.table import Table

    from edgefl.cli.output import safe

    table = Table.grid(padding=(0, 1))
    for host in dict.fromkeys(finding.host for finding in found):
        own = [finding for finding in found if finding.host == host]
        bad = [finding for finding in own if finding.verdict == "bad"]
        if not show_all and not bad:
            table.add_row(_SIGNS["good"], f"[bold]{host}[/]", f"{len(own)} checks are good")
        for finding in own if show_all else bad:
            table.add_row(_SIGNS[finding.verdict], f"[bold]{host}[/] {finding.check}", safe(finding.found))
            if finding.verdict == "bad" and finding.fix:
                table.add_row("", "", f"[bold]next: {safe(finding.fix)}[/]")
    return table
