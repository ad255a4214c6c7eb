"""`edgefl rollback`: the version before this one on every host again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
Hosts have kept it, so nothing travels. The coordinator follows once no run is going. `up` stays with it until the next upgrade;
a second rollback goes forward again.

examples:
  edgefl rollback
  edgefl rollback --json

exit codes: 0 every host runs it · 12 locked · 14 nothing is provisioned, or there is no version before this one
            21 a host does not answer · 31 Ansible · 32 bundle · 33 the authority's key does not open
            34 it was not well either, and was taken back · 60 the coordinator does not answer · 61 the journal was tampered with
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Go back, and say what hosts run."""
    from edgefl.operations.upgrade import rollback
    from edgefl.site import load

    seen = await out.stream(rollback(load(args.site)))
    out.result({"rolled_back": True, **seen[-1].detail}, "  next: edgefl status")
    return ExitCode.OK
