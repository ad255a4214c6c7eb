"""`edgefl audit log`: who did or decided what, when and why, from the journal's hash chain."""

from __future__ import annotations

import argparse
import re
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.cli.logs import moment
from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from edgefl.cli.output import Output
    from edgefl.events.schema import Event

_SHOWN = 200


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the log's own arguments."""
    parser.add_argument("--since", type=moment, metavar="WHEN", help="a time (2026-01-31T12:00) or an age (90s, 10m, 2h, 1d)")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help=f"at most so many, the newest (default: {_SHOWN}, or all)")
    parser.add_argument(
        "--verify", action="store_true", help="check every hash, of the copy and of all that the coordinator has; show no entries"
    )
    parser.add_argument("--offline", action="store_true", help="only what was read before, without asking the coordinator")
    parser.add_argument("--file", type=Path, metavar="FILE", help="another copy, or a recording, instead of the site's")
    parser.add_argument(
        "--seen", type=_noted, metavar="SEQ:HASH", help="an event that was noted elsewhere: it must be there, the same"
    )


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Read what is new, then show or check."""
    from edgefl.operations.chronicle import chronicle, entries, recognised
    from edgefl.operations.remember import copy_of
    from edgefl.site import load

    if args.file is None:
        site = load(args.site)
        if not args.offline:
            await out.stream(chronicle(site, whole=args.verify))
        copy = copy_of(site)
        path, events = copy.path, copy.events()
    else:
        path, events = args.file, entries(args.file)
    checked = recognised(events, dict([args.seen] if args.seen else ()), source=str(path))
    head, found = _read(checked, args)
    said = {"file": str(path), "seq": head[0], "hash": head[1], "verified": True}
    if args.verify:
        what = f"[green]✔[/] events 1 to {head[0]} hold" if head[0] else "[green]✔[/] there are no events yet"
        out.result(said, f"{what}\n  the last is {head[0]}:{head[1]}\n  {path}")
        return ExitCode.OK
    out.result({**said, "events": [event.model_dump(mode="json") for event in found]}, _table(found))
    return ExitCode.OK


def _read(events: Iterator[Event], args: argparse.Namespace) -> tuple[tuple[int, str], list[Event]]:
    """Every event, since each is verified as it is read; the last one's seq and hash, and those that are to be shown."""
    from edgefl.console.diary import AUDITED

    is_short = args.since is None and not args.json
    kept: deque[Event] = deque(maxlen=args.lines or (_SHOWN if is_short else None))
    head = (0, "")
    for event in events:
        head = (event.seq, event.hash)
        if isinstance(event.body, AUDITED) and (args.since is None or event.at >= args.since):
            kept.append(event)
    return head, list(kept)


def _table(events: list[Event]) -> Table | str:
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.audit import deed
    from edgefl.console.ink import Tone

    if not events:
        return "nothing was done or decided"
    colours = {Tone.GOOD: "green", Tone.WARN: "yellow", Tone.BAD: "red", Tone.STRONG: "bold"}
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("SEQ", "TIME", "WHO", "ACTION", "SUBJECT", "WHY"):
        table.add_column(title, justify="right" if title == "SEQ" else "left", no_wrap=title != "WHY")
    for event in events:
        row = deed(event)
        when = f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}"
        shown = (row.who, Text(row.action, colours.get(row.tone, "")), row.subject, row.why)
        table.add_row(str(event.seq), when, *(one if isinstance(one, Text) else Text(one) for one in shown))
    return table


def _noted(text: str) -> tuple[int, str]:
    if not re.fullmatch("[1-9][0-9]*:[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not SEQ:HASH, as `edgefl audit log --verify` shows it")
    seq, _, hash_ = text.partition(":")
    return int(seq), hash_
