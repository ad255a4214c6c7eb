"""`edgefl logs`: what the services wrote, on the coordinator and on devices, merged by time."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefl.errors import ExitCode
from edgefl.monitor import since
from edgefl.monitor.logs import LEVELS, MOST_LINES, MOST_TEXT

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.monitor.logs import LogLine

SITE = True
LEAST_MB, MOST_MB = 4, 1 << 20
_EPILOG = """\
examples:
  edgefl logs                               the coordinator's last 200 lines
  edgefl logs edge-03 --level warning       one device, what matters
  edgefl logs --all --since 10m             every host, merged by time
  edgefl logs -f coordinator edge-03        follow two hosts; Ctrl-C ends it
  edgefl logs --all --text certificate      what has a text in it, among each host's newest 10,000 lines
  edgefl logs --json | jq -r .message
  edgefl logs --all --format bulk | curl --data-binary @- -H 'Content-Type: application/x-ndjson' URL/_bulk
  edgefl logs --all --into /var/log/edgefl  for Filebeat or Grafana Alloy; it follows, and goes on where it ended

exit codes: 0 done · 1 --into cannot be written · 2 no such host · 12 another process writes there · 14 not provisioned
            21 a device does not answer · 33 the authority's key does not open · 60 the coordinator does not answer
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
    parser.add_argument("--text", type=some_text, metavar="WORDS", help="only lines with this in them, small letters or capitals")
    parser.add_argument(
        "--format", choices=("text", "ecs", "bulk"), default="text",
        help="ecs: JSON of the Elastic Common Schema; bulk: the same as Elasticsearch's _bulk takes it",
    )  # fmt: skip
    parser.add_argument("--into", type=Path, metavar="DIR", help="follow, and write ECS to files there for a shipper")
    parser.add_argument("--keep-mb", type=mebibytes, default=256, metavar="MIB", help="what those take together (default: 256)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Gather the hosts' lines, then print them as they come."""
    from contextlib import aclosing

    from edgefl.monitor.logs import Wanted
    from edgefl.operations.logs import read
    from edgefl.site import load

    site = load(args.site)
    wanted = Wanted(follow=args.follow, since=args.since, level=args.level, lines=args.lines, text=args.text or "")
    if args.into is not None:
        from edgefl.operations.shipping import ship

        await out.stream(ship(site, args.hosts, wanted, args.into, keep_mb=args.keep_mb, everywhere=args.all))
        return ExitCode.OK
    out.as_json = out.as_json or args.format != "text"
    async with aclosing(read(site, args.hosts, wanted, everywhere=args.all)) as lines:
        async for line in lines:
            for mapping in _mappings(line, args.format, site.name):
                out.result(mapping, _shown(line))
    return ExitCode.OK


def _mappings(line: LogLine, form: str, site: str) -> list[dict[str, Any]]:
    if form == "text":
        return [line.as_dict()]
    from edgefl.monitor import ecs

    document = ecs.document(line, site)
    return [ecs.action(document), document] if form == "bulk" else [document]


def count(text: str) -> int:
    """How many lines: as many as a host gives at once, at most."""
    if not text.isdecimal() or int(text) > MOST_LINES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines up to {MOST_LINES}; --since goes further back")
    return int(text)


def some_text(text: str) -> str:
    """A text to look for."""
    if not 0 < len(text) <= MOST_TEXT:
        raise argparse.ArgumentTypeError(f"a text has 1 to {MOST_TEXT} characters")
    return text


def mebibytes(text: str) -> int:
    """What files may take together."""
    if not text.isdecimal() or not LEAST_MB <= int(text) <= MOST_MB:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of MiB from {LEAST_MB} to {MOST_MB}")
    return int(text)


def moment(text: str) -> datetime:
    """A time, or an age before now; times without a zone are local."""
    try:
        return since.moment(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _shown(line: LogLine) -> str:
    from edgefl.cli.output import safe

    tone = {"err": "red", "crit": "red", "alert": "red", "emerg": "red", "warning": "yellow"}.get(line.level)
    message = safe(line.message)
    when = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    unit = line.unit.removeprefix("edgefl-")
    trace = "".join(f"\n  [dim]{safe(each)}[/]" for each in line.trace.splitlines())
    return f"[dim]{when}[/] [cyan]{safe(line.host)}[/] {safe(unit)} " + (f"[{tone}]{message}[/]" if tone else message) + trace
