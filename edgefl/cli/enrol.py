"""`edgefl enrol`: certify a device by a token that it uses itself, or by files that somebody carries."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.cli.actions import actions
from edgefl.errors import ExitCode
from edgefl.layout import ENROL

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.site.model import Site

SITE = True
_EPILOG = """\
`edgefl up` certifies devices over SSH. These are for one that SSH does not reach: it slept past the end of its certificate, or
lost it. On the device, as root, `/opt/edgefl/bin/edgefl-enrol` asks for the token; where no network leads to the coordinator,
`edgefl-enrol request FILE` and `edgefl-enrol install FILE` are the two ends of `edgefl enrol sign`.

examples:
  edgefl enrol token edge-03                       for one hour, once, for edge-03 alone; it is shown once
  edgefl enrol token edge-03 --hours 8 --why "back from repair"
  edgefl enrol sign /media/usb/edge-03.csr         asks, then writes /media/usb/edge-03.crt
  edgefl enrol sign edge-03.csr --out edge-03.crt --yes --json

exit codes: 0 done · 2 no such device, no request, or nobody to ask and no --yes · 12 locked · 14 not provisioned
            33 refused: in quarantine, foreign names, a key that was certified before; or the authority's key does not open
            60 the coordinator does not answer · 130 the answer was no
"""
_ACTIONS = {
    "token": "a token by which one device is certified once, within hours",
    "sign": "certify the request that a device wrote into a file",
}
_MOST_HOURS = 24.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own actions, arguments and examples."""
    parser.epilog = _EPILOG
    made = actions(parser, _ACTIONS)
    made["token"].add_argument("device", metavar="DEVICE")
    made["token"].add_argument("--hours", type=_hours, default=timedelta(hours=1), metavar="H", help="how long it counts: 1")
    made["token"].add_argument("--why", default="", metavar="TEXT", help="for the audit log")
    made["sign"].add_argument("file", type=Path, metavar="FILE", help="what `edgefl-enrol request` wrote")
    made["sign"].add_argument("--out", type=Path, metavar="FILE", help="where the certificate goes (default: FILE's name, .crt)")
    made["sign"].add_argument("--yes", action="store_true", help="do not ask")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Give out a token, or sign."""
    from edgefl.site import load

    site = load(args.site)
    return await (_token(site, args, out) if args.action == "token" else _sign(site, args, out))


async def _token(site: Site, args: argparse.Namespace, out: Output) -> ExitCode:
    from edgefl.operations.enrol import open_token

    token = await open_token(site, args.device, life=args.hours, why=args.why)
    said = {"device": token.device, "token": token.text, "until": token.until.isoformat()}
    shown = f"""\
{token.text}
  for {token.device} alone, once, until {token.until.astimezone():%Y-%m-%d %H:%M}; it is not shown again
  next: on {token.device}, as root: {ENROL}"""
    out.result(said, shown)
    return ExitCode.OK


async def _sign(site: Site, args: argparse.Namespace, out: Output) -> ExitCode:
    from edgefl.cli.asking import confirmed
    from edgefl.operations.enrol import read, sign

    asked = read(args.file)
    what = f"certify the key with SHA-256 {asked.key} as {asked.device} of {site.name}; compare it with what the device shows"
    if not args.yes and not confirmed(what, command="enrol sign", as_json=args.json):
        return ExitCode.CANCELLED
    chain = args.out or args.file.with_suffix(".crt")
    await out.stream(sign(site, asked, chain))
    said = {"device": asked.device, "key_sha256": asked.key, "certificate": str(chain)}
    out.result(said, f"\n[green]✔[/] {chain}\n  next: on {asked.device}, as root: {ENROL} install FILE")
    return ExitCode.OK


def _hours(text: str) -> timedelta:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 1 / 60 <= hours <= _MOST_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours from 0.02 to {_MOST_HOURS:g}")
    return timedelta(hours=hours)
