"""`edgefl console`: watch and steer a federation from a terminal, or from a browser on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError, ExitCode, NotProvisioned

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.console.app import Console

SITE = True
_EPILOG = """\
examples:
  edgefl console                          the site here
  edgefl console --site clinic            where there is no site yet: write one, plan it, apply it, without leaving
  edgefl console --readonly               watch only: no key changes anything
  edgefl console --replay run-4.ndjson    a recorded run, offline
  edgefl console --replay run-4.ndjson --speed 20
  edgefl console --replay .edgefl/journal/journal.ndjson    all that ever happened, from the operator's own copy
  edgefl console --web                    in a browser on this machine

keys: 1-7 views · enter evidence · esc back · / filter · s S sort · space mark · l logs · V verify isolation, in Audit the chain
      p pause · r run · x stop · Q quarantine · R release · D drain · U undrain · c rotate certificates · T token
      P plan · A apply · C cancel · E edit site.yaml · ctrl+p palette · ? help · q quit
NO_COLOR is honoured; a light terminal is recognised by COLORFGBG, or say --theme edgefl-light

exit codes: 0 closed · 1 the port is taken · 2 no terminal, or no such recording, theme or extra
            14 not provisioned, and --readonly
            33 the authority's key does not open
"""


class NoTerminal(EdgeflError):
    """The console draws on a terminal, and there is none."""

    exit_code = ExitCode.USAGE


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--readonly", action="store_true", help="offer no action")
    parser.add_argument("--theme", default="", metavar="NAME", help="edgefl-dark, edgefl-light, or any that ctrl+p offers")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="show a recorded run, or a copy of the journal, instead of the site's monitor"
    )
    parser.add_argument("--speed", type=float, default=0.0, metavar="X", help="replay at X times its own pace (default: its end)")
    parser.add_argument("--web", action="store_true", help="serve it to browsers on this machine, at a secret address")
    parser.add_argument("--port", type=_port, default=8420, metavar="N", help="port of --web, 0 for a free one (default: 8420)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Show the console until the operator leaves it."""
    if args.web:
        return await _serve(args, out)
    if out.as_json or not (os.environ.get("TEXTUAL_DRIVER") or (sys.stdin.isatty() and sys.stdout.isatty())):
        raise NoTerminal("the console needs a terminal", hint="edgefl status --json")
    if args.replay is not None:
        return await _replay(args)
    return await _watch(args)


async def _replay(args: argparse.Namespace) -> ExitCode:
    from edgefl.console.app import Console
    from edgefl.console.archive import Recording
    from edgefl.console.feed import ReplayFeed
    from edgefl.events.replay import header_of

    header_of(args.replay)  # a file that is no recording is refused before the screen changes
    feed, archive = ReplayFeed(args.replay), Recording(args.replay)
    return await _show(Console(feed, archive=archive, speed=args.speed, theme=_theme(args.theme)))


async def _watch(args: argparse.Namespace) -> ExitCode:
    from edgefl.console.app import Console
    from edgefl.console.feed import MonitorFeed, SiteFeed
    from edgefl.console.provisioning.works import Works
    from edgefl.operations.logs import SiteLogs
    from edgefl.operations.watch import watching
    from edgefl.site import load
    from edgefl.site.invalid import SiteInvalid
    from edgefl.site.loading import place

    theme = _theme(args.theme)
    works = None if args.readonly else Works(args.site)
    if args.readonly or place(args.site).exists():
        try:
            site = load(args.site)
            async with watching(site) as monitor:
                controls, logs = None if args.readonly else monitor, SiteLogs(site, monitor)
                console = Console(MonitorFeed(monitor), controls=controls, works=works, logs=logs, archive=monitor, theme=theme)
                return await _show(console)
        except (NotProvisioned, SiteInvalid):
            if args.readonly:
                raise
    feed = SiteFeed(args.site)
    return await _show(Console(feed, controls=feed, works=works, logs=feed, archive=feed, opens="Provision", theme=theme))


async def _serve(args: argparse.Namespace, out: Output) -> ExitCode:
    from edgefl.console.web import serve
    from edgefl.events.replay import header_of

    _theme(args.theme)
    if args.replay is not None:
        header_of(args.replay)
    else:
        await _look(args)
    await serve(behind(args), port=args.port, told=lambda url: out.result({"url": url}, f"{url}\nCtrl-C ends it"))
    return ExitCode.OK


async def _look(args: argparse.Namespace) -> None:
    """Say what hinders a console before a browser is sent for one. Only one that may change nothing needs a site that stands."""
    from edgefl.operations.watch import watching
    from edgefl.site import load
    from edgefl.site.invalid import SiteInvalid
    from edgefl.site.loading import place

    if not args.readonly and not place(args.site).exists():
        return
    try:
        async with watching(load(args.site)):
            pass
    except (NotProvisioned, SiteInvalid):
        if args.readonly:
            raise


def behind(args: argparse.Namespace) -> list[str]:
    """The command of the console behind each tab: this one, on a page instead of a terminal."""
    command = [sys.executable, "-m", "edgefl", "console", "--site", str(args.site.absolute())]
    if args.replay is not None:
        command += ["--replay", str(args.replay.absolute()), "--speed", str(args.speed)]
    if args.theme:
        command += ["--theme", args.theme]
    return [*command, "--readonly"] if args.readonly else command


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


async def _show(console: Console) -> ExitCode:
    await console.run_async()
    if console.crash is not None:
        raise console.crash
    return ExitCode.OK


def _theme(name: str) -> str:
    """The name when there is such a theme; empty for the terminal's own preference."""
    from textual.theme import BUILTIN_THEMES

    from edgefl.console.theme import DARK, LIGHT

    known = [DARK.name, LIGHT.name, *BUILTIN_THEMES]
    if name and name not in known:
        error = EdgeflError(f"there is no theme {name!r}", hint=f"one of {', '.join(known)}")
        error.exit_code = ExitCode.USAGE
        raise error
    return name
