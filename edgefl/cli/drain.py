"""`edgefl drain`: let devices finish what they do, and ask them no more."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
A device finishes the round that it is in, and no round asks it from then on, nor those of later runs. Nothing on it changes: its
services, certificate and walls stay, and `edgefl up` leaves it drained. It works while a run is going, and ends when the devices
have nothing to do any more; Ctrl-C, and they are drained all the same.

examples:
  edgefl drain edge-07 --why "new disk"
  edgefl drain edge-07 edge-09 --why "ward 3 moves" --json

exit codes: 0 drained · 2 no such device · 12 locked · 14 not provisioned · 33 the authority's key does not open
            60 the coordinator does not answer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("devices", nargs="+", metavar="DEVICE", help="devices to leave alone")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for the audit log")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Drain them, and wait until they are at rest."""
    from edgefl.operations.drain import drain
    from edgefl.site import load

    await out.stream(drain(load(args.site), args.devices, why=args.why))
    next_ = f"\n  next: edgefl undrain {args.devices[0]} --why TEXT"
    out.result({"drained": args.devices, "why": args.why}, f"\n[green]✔[/] no round asks {', '.join(args.devices)}{next_}")
    return ExitCode.OK
