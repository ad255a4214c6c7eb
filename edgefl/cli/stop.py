"""`edgefl stop`: end the run that is going."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
examples:
  edgefl stop
  edgefl stop --why "wrong data on edge-03"    kept in the audit log

exit codes: 0 stopping, or no run is going · 14 not provisioned · 33 the authority's key does not open · 52 Flower refused
            60 the coordinator does not answer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--why", default="", metavar="TEXT", help="the reason, for the audit log")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Stop it."""
    from edgefl.operations.stop import stop
    from edgefl.site import load

    seen = await out.stream(stop(load(args.site), why=args.why))
    out.result(dict(seen[-1].detail))
    return ExitCode.OK
