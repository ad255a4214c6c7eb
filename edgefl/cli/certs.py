"""`edgefl certs`: every certificate of the site, and new ones for its hosts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgefl.cli.actions import actions
from edgefl.errors import ExitCode
from edgefl.progress import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgefl.cli.output import Output
    from edgefl.operations.certificates import Held

SITE = True
_EPILOG = """\
A NAME is a host's, an operator's, or `root` or `issuing` for the authorities.

examples:
  edgefl certs list                     who has which certificate until when
  edgefl certs list --all               those too that were replaced
  edgefl certs list --json | jq '.certificates[] | select(.status != "valid")'
  edgefl certs show edge-03             all that edge-03 ever had
  edgefl certs rotate                   new keys and certificates for every host, now; a run goes on
  edgefl certs rotate edge-03           for one: also where it slept past the end of its certificate
  edgefl certs revoke alice@desk --why "laptop lost"
  edgefl certs rotate-ca                another root and issuing authority; both are trusted, a run goes on
  edgefl certs rotate-ca --finish       the older root is trusted no more, and its keys are deleted

exit codes: 0 done · 2 no such name or host · 12 another operation is at work, or a run (--finish) · 14 not provisioned
            21 a host does not answer · 31 a host could not be given its certificate · 32 the bundle is gone
            33 the authority refused, or its key does not open · 60 the coordinator does not answer
"""
_ACTIONS = {
    "list": "every certificate: role, serial, end, status",
    "show": "one name's certificates, the newest first",
    "rotate": "give hosts new keys and certificates now, while a run goes on",
    "revoke": "end all certificates of a name early: the gate refuses them at once",
    "rotate-ca": "give the site another root, trusted beside the older one until --finish",
}
_TONES = {"valid": "green", "near expiry": "yellow", "expired": "red", "revoked": "red"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own actions, arguments and examples."""
    parser.epilog = _EPILOG
    made = actions(parser, _ACTIONS)
    made["list"].add_argument("--all", action="store_true", help="those too that were replaced by newer ones")
    made["show"].add_argument("name", metavar="NAME")
    made["revoke"].add_argument("name", metavar="NAME", help="a device, an operator or a scraper")
    made["revoke"].add_argument("--why", default="", metavar="TEXT", help="for the register and the journal")
    made["rotate-ca"].add_argument("--finish", action="store_true", help="trust the newer root alone, once no run is going")
    made["rotate"].add_argument("names", nargs="*", metavar="HOST", help="hosts (default: all)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Rotate or revoke, or read the register once it knows what was renewed."""
    from edgefl.operations.certificates import held, of
    from edgefl.operations.renewals import hear
    from edgefl.operations.revoke import revoke
    from edgefl.operations.rotate import rotate
    from edgefl.operations.rotate_ca import finish_ca, rotate_ca
    from edgefl.site import load
    from edgefl.site.observability import SUBJECT

    site = load(args.site)
    if args.action == "rotate":
        await out.stream(rotate(site, args.names))
    elif args.action == "revoke":
        await out.stream(revoke(site, args.name, why=args.why))
    elif args.action == "rotate-ca":
        await out.stream(finish_ca(site) if args.finish else rotate_ca(site))
    else:
        await out.stream(hear(site))
    now = datetime.now(UTC)
    found = held(site, now)
    if args.action in {"show", "revoke"}:
        found = of(args.name, found)
        out.result({"name": args.name, "certificates": [one.as_dict() for one in found]}, page(found, now))
        return ExitCode.OK
    wanted = set(getattr(args, "names", ()))
    if site.watcher is not None and site.watcher.name in wanted:
        wanted.add(SUBJECT)  # what that host has is no certificate of its own name
    shown = [one for one in found if getattr(args, "all", False) or one.is_current]
    shown = [one for one in shown if not wanted or one.entry.subject in wanted]
    out.result({"certificates": [one.as_dict() for one in shown]}, table(shown, now))
    return ExitCode.OK


def table(found: Sequence[Held], now: datetime) -> RenderableType:
    """One line a certificate."""
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import span

    drawn = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("NAME", "ROLE", "STATUS", "ENDS IN", "ENDS", "SERIAL"):
        drawn.add_column(column, justify="right" if column == "ENDS IN" else "left", no_wrap=True)
    for one in found:
        entry = one.entry
        left_s = (entry.expires - now).total_seconds()
        status = Text(one.standing if one.is_current else f"{one.standing}, replaced", _TONES[one.standing])
        drawn.add_row(
            Text(printable(entry.subject), "" if one.is_current else "dim"),
            entry.role,
            status,
            span(left_s) if left_s > 0 and not entry.is_revoked else "—",
            f"{entry.expires:%Y-%m-%d %H:%M}",
            entry.serial,
        )
    return drawn


def page(found: Sequence[Held], now: datetime) -> RenderableType:
    """Everything about each of one name's certificates."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import span

    parts: list[RenderableType] = []
    for one in found:
        entry = one.entry
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim")
        left_s = (entry.expires - now).total_seconds()
        told = [
            ("serial", entry.serial),
            ("valid", f"{entry.begins:%Y-%m-%d %H:%M} to {entry.expires:%Y-%m-%d %H:%M} UTC"),
            ("issuer", entry.issuer),
            ("key", f"SHA-256 {entry.key}" if entry.key else "—"),
        ]
        told += [("ends in", span(left_s))] if left_s > 0 and not entry.is_revoked else []
        told += [("revoked", f"{entry.revoked_at[:16]}: {entry.reason or 'no reason given'}")] if entry.is_revoked else []
        for name, value in told:
            facts.add_row(name, Text(printable(value)))
        mark = "" if one.is_current else ", replaced"
        parts += [Text.assemble((entry.role, "bold"), "  ", (f"{one.standing}{mark}", _TONES[one.standing])), facts]
    return Group(*parts)
