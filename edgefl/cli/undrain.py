"""`edgefl undrain`: have rounds ask drained devices again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
The next round asks the devices again, that of a run that is going too. What was held against them before is held against them
still; a device in quarantine stays there.

examples:
  edgefl undrain edge-07 --why "the disk is in"
  edgefl undrain edge-07 edge-09 --why "moved" --json

exit codes: 0 back in rounds · 2 no such device · 12 locked · 14 not provisioned · 33 the authority's key does not open
            60 the coordinator does not answer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("devices", nargs="+", metavar="DEVICE", help="devices to ask again")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for the audit log")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Have them asked again."""
    from edgefl.operations.drain import undrain
    from edgefl.site import load

    await out.stream(undrain(load(args.site), args.devices, why=args.why))
    out.result({"undrained": args.devices, "why": args.why}, f"\n[green]✔[/] no longer drained: {', '.join(args.devices)}")
    return ExitCode.OK
