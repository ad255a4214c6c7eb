"""`edgefl demo`: a whole federation on this machine, from nothing to a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

_EPILOG = """\
Needs root: it boots real Debian hosts in namespaces of this machine. Runs again as often as the devices' privacy budgets allow;
`edgefl down --site sites/demo` starts over.

examples:
  edgefl demo                 in sites/demo
  edgefl demo /srv/demo       somewhere else
  edgefl demo --json          the stream; its last line is result.json, and where model and journal lie

exit codes: 0 done · 13 needs root · 10-40 as `edgefl up` · 50-61 as `edgefl run`
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("directory", type=Path, nargs="?", default=Path("sites/demo"), help="where the demo's site lies")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Run it all, then show what came of it."""
    from edgefl.lab.machine import demand
    from edgefl.operations.demo import demo, summary_of

    demand()
    summary = summary_of(await out.stream(demo(args.directory)))
    if out.as_json:
        out.result({**summary.result(), "model": summary.model, "journal": summary.journal})
    else:
        from edgefl.cli.picture import picture

        out.result({}, picture(summary, args.directory))
    return ExitCode.OK
