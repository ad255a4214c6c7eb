"""`edgefl export`: tell services of your own what happened, as traces or as MLflow's runs."""

from __future__ import annotations

import argparse
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from edgefl.cli.actions import actions
from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.operations.export import Receiver
    from edgefl.site.model import Site

SITE = True
_EPILOG = """\
Where to, and what opens it, stands in site.yaml under `observability`. This machine does it, from the journal: hosts
carry nothing for it, and their walls stay as they are. What was told is not told again; a service that was away is told the rest.

examples:
  edgefl export traces              every round that the collector has not seen yet
  edgefl export traces --follow     and each round from now on, as it ends; Ctrl-C ends it
  edgefl export mlflow              runs with parameters, metrics of each round, models, what privacy cost, who was flagged
  edgefl export mlflow --follow
  edgefl export mlflow --json | tail -1

exit codes: 0 done · 1 how far it was told cannot be kept · 2 site.yaml names no such service · 10 site.yaml, or a secret's file
            12 another export is at work · 14 not provisioned · 33 the authority's key does not open · 52 a model is damaged
            60 the coordinator does not answer · 61 the journal was tampered with · 62 the service does not answer, or refuses
"""
_ACTIONS = {
    "traces": "each round as a trace of OpenTelemetry's, to a collector",
    "mlflow": "each run with its rounds and models, to MLflow",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own actions, arguments and examples."""
    parser.epilog = _EPILOG
    for made in actions(parser, _ACTIONS).values():
        made.add_argument("-f", "--follow", action="store_true", help="go on with what happens from now")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Tell it."""
    from edgefl.operations.export import export
    from edgefl.site import load

    site = load(args.site)
    async with _receiver(args.action, site) as receiver:
        seen = await out.stream(export(site, receiver, follow=args.follow))
    out.result(dict(seen[-1].detail))
    return ExitCode.OK


def _receiver(kind: str, site: Site) -> AbstractAsyncContextManager[Receiver]:
    if kind == "traces":
        from edgefl.operations.traces import collector

        return collector(site)
    from edgefl.operations.tracking import tracker

    return tracker(site)
