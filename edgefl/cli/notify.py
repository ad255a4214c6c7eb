"""`edgefl notify`: the operator's own channels hear of flags, quarantines, ends of runs, budgets and walls."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
Where to and what about stands in site.yaml under observability: notify. The first time, what comes from then on is told;
afterwards it goes on where it ended, and what happened meanwhile is told, too.

examples:
  edgefl notify                   until Ctrl-C
  edgefl notify --once            what is new, then end: for cron
  edgefl notify --test            a message to every channel
  edgefl notify --from-now        pass over what was not told yet

exit codes: 0 told · 1 a channel takes nothing · 2 no channels · 12 another process tells · 14 not provisioned
            33 the authority's key does not open · 60 the coordinator does not answer · 61 the journal is another one
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="tell what is new, then end")
    how.add_argument("--test", action="store_true", help="try every channel, then end")
    parser.add_argument("--from-now", action="store_true", help="begin at the journal's end, whatever was told before")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Tell."""
    from edgefl.operations import notify
    from edgefl.site import load

    site = load(args.site)
    await out.stream(notify.test(site) if args.test else notify.notify(site, follow=not args.once, from_now=args.from_now))
    return ExitCode.OK
