"""`edgefl quarantine`: cut devices off now, and keep their evidence."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
The gate ends the devices' live connections and refuses them, the run that is going leaves them out, their own firewalls let the
operator's SSH in and nothing else. Ledger, data and whatever is evidence stay. It works while a run is going, and
while an upgrade waits for its end.

examples:
  edgefl quarantine edge-07 --why "sends the same update each round"
  edgefl quarantine edge-07 edge-09 --why "stolen" --yes --json

exit codes: 0 cut off · 2 no such device, or nobody to ask and no --yes · 12 locked · 14 not provisioned
            21 the coordinator does not answer · 33 the authority · 130 the answer was no
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("devices", nargs="+", metavar="DEVICE", help="devices to cut off")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for the audit log")
    parser.add_argument("--yes", action="store_true", help="do not ask")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Ask once, then cut them off."""
    from edgefl.cli.asking import confirmed
    from edgefl.operations.quarantine import quarantine
    from edgefl.operations.state import kept_out
    from edgefl.site import load

    site = load(args.site)
    what = f"cut {', '.join(args.devices)} off {site.name} and revoke their certificates"
    if not args.yes and not confirmed(what, command="quarantine", as_json=args.json):
        return ExitCode.CANCELLED
    await out.stream(quarantine(site, args.devices, why=args.why))
    out.result(
        {"quarantined": list(kept_out(site)), "why": args.why},
        f"\n[green]✔[/] {', '.join(args.devices)} cut off\n  next: edgefl release {args.devices[0]} --why TEXT",
    )
    return ExitCode.OK
