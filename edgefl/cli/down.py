"""`edgefl down`: undo `up`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
The operator's authority, proofs and fetched models stay in .edgefl/. A lab host's ledger and journal go with its disk; on adopted
hosts both stay.

examples:
  edgefl down
  edgefl down --yes --json    without a question, for CI

exit codes: 0 gone · 2 nobody to ask, and no --yes · 12 locked · 20 no Terraform · 21 a host does not answer · 22 Terraform
            23 a lab host · 31 Ansible · 130 the answer was no
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--why", default="", metavar="TEXT", help="the reason, for the audit log")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Ask once, then take it down."""
    from edgefl.cli.asking import confirmed
    from edgefl.operations.down import down
    from edgefl.site import load

    site = load(args.site)
    lab = site.infrastructure.module == "lab"
    what = (
        f"erase {site.name}'s {len(site.hosts)} lab hosts"
        if lab
        else f"remove edgefl from {len(site.hosts)} hosts of {site.name}"
    )
    if not args.yes and not confirmed(what, command="down", as_json=args.json):
        return ExitCode.CANCELLED
    await out.stream(down(site, why=args.why))
    out.result({"site": site.name, "down": True})
    return ExitCode.OK
