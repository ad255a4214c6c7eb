"""`edgefl logs`: what the services wrote, on the coordinator and on devices, merged by time."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode
from edgefl.monitor.logs import LEVELS, MOST_LINES

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.monitor.logs import LogLine

SITE = True
_EPILOG = """\
examples:
  edgefl logs                               the coordinator's last 200 lines
  edgefl logs edge-03 --level warning       one device, what matters
  edgefl logs --all --since 10m             every host, merged by time
  edgefl logs -f coordinator edge-03        follow two hosts; Ctrl-C ends it
  edgefl logs --json | jq -r .message

exit codes: 0 done · 2 no such host · 14 not provisioned · 21 a device does not answer · 33 the authority's key does not open
            60 the coordinator does not answer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="coordinator or device names (default: the coordinator)")
    parser.add_argument("--all", action="store_true", help="every host of the site")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now")
    parser.add_argument("--since", type=moment, metavar="WHEN", help="a time (2026-01-31T12:00) or an age (90s, 10m, 2h, 1d)")
    parser.add_argument("--level", choices=LEVELS, default="info", help="least important lines to show (default: info)")
    parser.add_argument("-n", "--lines", type=count, default=200, metavar="N", help="at most this many old lines per host")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Gather the hosts' lines, then print them as they come."""
    from contextlib import aclosing

    from edgefl.monitor.logs import Wanted
    from edgefl.operations.logs import read
    from edgefl.site import load

    wanted = Wanted(follow=args.follow, since=args.since, level=args.level, lines=args.lines)
    async with aclosing(read(load(args.site), args.hosts, wanted, everywhere=args.all)) as lines:
        async for line in lines:
            out.result({**line.as_dict()}, _shown(line))
    return ExitCode.OK


def count(text: str) -> int:
    """How many lines: as many as a host gives at once, at most."""
    if not text.isdecimal() or int(text) > MOST_LINES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines up to {MOST_LINES}; --since goes further back")
    return int(text)


def moment(text: str) -> datetime:
    """A time, or an age before now; times without a zone are local."""
    from datetime import UTC, timedelta

    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if text[-1:] in units and text[:-1].replace(".", "", 1).isdigit():
        return datetime.now(UTC) - timedelta(**{units[text[-1]]: float(text[:-1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a time (2026-01-31T12:00) nor an age (10m)") from error


def _shown(line: LogLine) -> str:
    from edgefl.cli.output import safe

    tone = {"err": "red", "crit": "red", "alert": "red", "emerg": "red", "warning": "yellow"}.get(line.level)
    message = safe(line.message)
    when = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    unit = line.unit.removeprefix("edgefl-")
    return f"[dim]{when}[/] [cyan]{safe(line.host)}[/] {safe(unit)} " + (f"[{tone}]{message}[/]" if tone else message)
