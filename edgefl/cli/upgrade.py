"""`edgefl upgrade`: another version on every host, in waves, and back by itself when the federation is worse with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
Every host gets the files first, and installs nothing. Then the canaries run the new version, then 10 %, 50 % and all devices,
then the coordinator, once no run is going. A wave is well when services are ready and devices online, and, in the middle of a
run, when the next rounds count, with a loss and a time within the margins of `upgrade` in site.yaml. What is not is taken back.

examples:
  edgefl upgrade                           this edgefl's own code, and the task as it is now
  edgefl upgrade --to /media/usb/b         a bundle; `up` stays with it until the next upgrade
  edgefl upgrade --canary 3 --json

exit codes: 0 every host runs it · 11 task · 12 locked · 14 nothing is provisioned · 21 a host does not answer · 30 not fit
            31 Ansible · 32 bundle · 33 the authority's key does not open · 34 it was not well, and was taken back
            60 the coordinator does not answer · 61 the journal was tampered with
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--to", type=Path, metavar="BUNDLE", help="a bundle's directory (default: one of this edgefl is built)")
    parser.add_argument("--canary", type=int, metavar="N", help="devices that get it first (default: the site's upgrade.canary)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Roll it out, and say what hosts run."""
    from edgefl.operations.upgrade import upgrade
    from edgefl.site import load

    seen = await out.stream(upgrade(load(args.site, with_files=args.to is None), args.to, args.canary))
    result = {"upgraded": seen[-1].detail["from"] != seen[-1].detail["to"], **seen[-1].detail}
    out.result(result, "  next: edgefl status")
    return ExitCode.OK
