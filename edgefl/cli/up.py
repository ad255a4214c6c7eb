"""`edgefl up`: from site.yaml to a converged, proven fleet."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode
from edgefl.progress import Finished

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
Runs as often as you like: what already stands is left alone. Ctrl-C anywhere; the same command goes on from there.
A run that is going goes on. Where what has changed would end it, nothing is done, and it is said why; --now does it all the same.

examples:
  edgefl up                         the site here
  edgefl up --site clinic --json    one event a line, for CI
  edgefl up --now                   also where that ends the run that is going
  EDGEFL_PASSPHRASE=… edgefl up     when the authority's keys are encrypted

exit codes: 0 stands and is proven · 11 task · 12 locked, or a run would end · 13 needs root · 20 no Terraform
            21 a host does not answer · 22 Terraform · 23 a lab host · 30 not fit · 31 Ansible · 32 bundle
            33 the authority · 40 not isolated · 60 the coordinator does not answer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--why", default="", metavar="TEXT", help="the reason, for the audit log")
    parser.add_argument("--now", action="store_true", help="do not spare the run that is going")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Provision, showing each stage as it goes."""
    from edgefl.operations.up import up
    from edgefl.site import load

    site = load(args.site, with_files=True)
    seen = await out.stream(up(site, why=args.why, now=args.now))
    stages = [event for event in seen if isinstance(event, Finished) and not event.subject]
    seconds = sum(event.seconds for event in stages)
    out.result(
        {
            "site": site.name,
            "changed": any(event.changed for event in stages),
            "seconds": round(seconds, 1),
            "stages": [{"name": event.stage, "seconds": round(event.seconds, 2)} for event in stages],
        },
        f"\n[green]✔[/] {site.name} stands: {len(site.devices)} devices in {seconds:.0f} s\n  next: edgefl run",
    )
    return ExitCode.OK
