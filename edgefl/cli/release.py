"""`edgefl release`: take devices back from quarantine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
A device comes back with new keys and new certificates, its firewall and services as the site says, its isolation proven, and
takes part in rounds again. What it has spent of its privacy budget stays spent; what the policy held against it is forgotten, as
by `edgefl run --pardon`. It works while a run is going; Ctrl-C anywhere, the same command goes on from there.

examples:
  edgefl release edge-07 --why "its records were checked"
  edgefl release edge-07 edge-09 --why "installed anew" --json

exit codes: 0 back · 2 no such device · 12 locked, or a run would end with what has changed since the last up · 14 not provisioned
            21 a host does not answer · 30 not fit · 31 Ansible · 32 bundle · 33 the authority · 40 not isolated
            60 the coordinator does not answer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("devices", nargs="+", metavar="DEVICE", help="devices to take back")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for the audit log")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Take them back."""
    from edgefl.operations.quarantine import release
    from edgefl.operations.state import kept_out
    from edgefl.site import load

    site = load(args.site)
    await out.stream(release(site, args.devices, why=args.why))
    back = f"\n[green]✔[/] back: {', '.join(args.devices)}"
    out.result({"released": args.devices, "quarantined": list(kept_out(site))}, back)
    return ExitCode.OK
