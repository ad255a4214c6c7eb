"""`edgefl run`: train, and follow it to the end."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
A run that is already going is followed; with --resume it is also gone on with, should it die. Ctrl-C stops following, not the
run: `edgefl stop` ends it.

examples:
  edgefl run
  edgefl run --rounds 3
  edgefl run --pardon edge-03         takes part again, whatever was said of it
  edgefl run --resume                  a run that died goes on from its last complete round
  edgefl run --resume 7 --rounds 20    an earlier one, and further than it was meant to go
  edgefl run --json | jq 'select(.type == "finished") | .detail'

exit codes: 0 done · 2 nothing to resume, or no such run · 12 another run is going · 14 not provisioned
            21 the model did not come · 33 the authority's key does not open · 50 too few devices · 52 the run failed, or what
            to resume is gone or damaged · 60 the coordinator does not answer · 61 the journal was tampered with
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of this run (default: the site's)")
    parser.add_argument(
        "--deadline", type=float, metavar="S", help="seconds that a round's replies are awaited (default: the site's)"
    )
    parser.add_argument(
        "--pardon", nargs="+", metavar="DEVICE", default=[], help="devices whose past counts no more, quarantined ones too"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="RUN",
        help="go on with a run that died (default: the last), as it was planned",
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="the reason, for the audit log")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Start or follow, then say where the result lies."""
    from edgefl.operations.run import run as train
    from edgefl.site import load

    given = {"rounds": args.rounds, "deadline_s": args.deadline, "pardon": args.pardon or None, "resume": args.resume}
    overrides = {name: value for name, value in given.items() if value is not None}
    seen = await out.stream(train(load(args.site), overrides, why=args.why))
    result = dict(seen[-1].detail)
    out.result(result, f"  model: {result['local_model'] or 'none'}\n  next: edgefl rounds")
    return ExitCode.OK
