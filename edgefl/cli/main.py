"""The `edgefl` command: finds the file that holds a command, lets it run, and turns errors into lines and exit codes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Protocol

from edgefl import __version__
from edgefl.cli.output import Output
from edgefl.errors import Cancelled, EdgeflError, ExitCode

COMMANDS = {
    "init": "write a commented site.yaml to start from",
    "check": "validate site.yaml and the task, touching nothing",
    "plan": "show what up would change, and change nothing",
    "up": "provision every host and prove its isolation",
    "down": "take the site down; lab hosts vanish, adopted hosts lose what edgefl put there",
    "upgrade": "bring another version to every host, in waves, and back when it is not well",
    "rollback": "bring the version before this one back to every host",
    "run": "train, and follow the run to its end",
    "stop": "end the run that is going; what it trained stays",
    "rounds": "how the model got better, and where each round's time went",
    "models": "every round's global model: list, compare, export, roll back",
    "console": "watch and steer the federation, live",
    "status": "is it well, and if not, what needs attention",
    "devices": "the fleet, or one device with its flags, budget and proofs",
    "quarantine": "cut devices off now; their evidence stays",
    "release": "take devices back from quarantine, with new keys",
    "drain": "let devices finish what they do, and ask them no more: for maintenance",
    "undrain": "have rounds ask drained devices again",
    "logs": "what the services wrote, on the coordinator and on devices",
    "notify": "tell your own channels of flags, quarantines, ends of runs, budgets and walls",
    "verify": "prove what every host reaches and what not",
    "bundle": "all that hosts install, in one signed directory: build, verify, push",
    "certs": "every certificate: list, show, give hosts new keys",
    "enrol": "certify a device by a token, or by files that somebody carries",
    "audit": "attack the task on purpose, and see what it gives away; the log of who did what",
    "export": "tell a collector of traces, or MLflow, what happened",
    "doctor": "find what ails a host: network, SSH, clock, disk, certificate, firewall, services",
    "lab": "boot, reach, break and remove lab hosts on this machine (needs root)",
    "demo": "a federation of 9 lab hosts on this machine, one of them an attacker",
}
"""Every command and what it is for, in the order of a site's life; each is a module of edgefl.cli, imported when asked for."""

_EPILOG = """\
examples:
  edgefl init clinic && cd clinic    write a commented site.yaml
  edgefl up                          provision every host, prove their isolation
  edgefl run                         train
  edgefl console                     watch and steer

exit codes: 0 done · 2 usage · 10 site.yaml · 21 a host does not answer · 40 not isolated · 52 run failed · 130 stopped
            docs/exit-codes.md has them all
"""

_ANY = """\
            any command: 1 nobody foresaw it · 2 usage · {site}130 stopped; docs/exit-codes.md has them all
"""


class Command(Protocol):
    """What a file of edgefl/cli offers. `SITE = True` gives it `--site`."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments and examples."""

    async def run(self, args: argparse.Namespace, out: Output) -> ExitCode:
        """Do it."""


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    code = run(sys.argv[1:] if argv is None else argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _nobody_reads()
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run one command; its exit code."""
    args = _parser(argv).parse_args(argv)
    if not args.command:
        _parser([]).print_help()
        return ExitCode.USAGE
    import asyncio  # a fifth of the time in which --help answers
    import logging

    # What a connection complains of while it is closed is an error to nobody who called it, and a traceback on the terminal.
    logging.getLogger("asyncio").setLevel(logging.DEBUG if os.environ.get("EDGEFL_DEBUG") else logging.CRITICAL)
    out = Output(as_json=args.json)
    try:
        return int(asyncio.run(_command(args.command).run(args, out)))
    except EdgeflError as error:
        out.error(error)
        return int(error.exit_code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        out.error(Cancelled("stopped; nothing is lost", hint=f"the same command goes on from here: edgefl {shlex.join(argv)}"))
        return ExitCode.CANCELLED
    except BrokenPipeError:
        return _nobody_reads()
    except Exception as error:  # the last boundary: a user never sees a traceback
        if os.environ.get("EDGEFL_DEBUG"):
            raise
        out.error(_unexpected(error, args))
        return ExitCode.FAILED


def _nobody_reads() -> int:
    """The reader left, as `head` does; the interpreter must not complain about it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.NO_READER


class _Shape(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples as written, and every command with its meaning on one line."""

    def add_argument(self, action: argparse.Action) -> None:
        """Make room for the action; argparse forgets that commands are indented, and breaks the line after the longest."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):  # argparse names it nowhere else
            self._action_max_length = max(self._action_max_length, max(map(len, action.choices)) + 2 * self._indent_increment)


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser; only the command that was asked for is imported, since every import costs start-up time."""
    shape = _Shape
    description = "Private, Byzantine-robust federated training on a fleet of edge devices."
    parser = argparse.ArgumentParser("edgefl", description=description, epilog=_EPILOG, formatter_class=shape)
    parser.add_argument("--version", action="version", version=f"edgefl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    asked = next((word for word in argv if word in COMMANDS), None)
    for name in [asked] if asked else COMMANDS:
        child = commands.add_parser(name, help=COMMANDS[name], description=COMMANDS[name], formatter_class=shape)
        if asked:
            _configure(child, _command(name))
    return parser


def _configure(parser: argparse.ArgumentParser, command: Command) -> None:
    """Give a command's parser what it takes, and what every command takes."""
    has_site = getattr(command, "SITE", False)
    if has_site:
        parser.add_argument("--site", type=Path, default=Path(), metavar="DIR", help="directory of site.yaml (default: here)")
    command.configure(parser)
    parser.epilog = f"{parser.epilog}{_ANY.format(site='10 site.yaml · ' if has_site else '')}"
    parser.add_argument("--json", action="store_true", help="one JSON object a line; the last one is the result")


def _command(name: str) -> Command:
    module: Command = import_module(f"edgefl.cli.{name}")
    return module


def _unexpected(error: Exception, args: argparse.Namespace) -> EdgeflError:
    """What to show for an error that nobody foresaw: its kind, and the file that holds the rest."""
    state: Path = getattr(args, "site", Path()) / ".edgefl"
    directory = state if state.is_dir() else Path.home()
    report = directory / "edgefl-crash.txt"
    try:
        report.write_text("".join(traceback.format_exception(error)))
        report.chmod(0o600)
    except OSError:
        return EdgeflError(f"unexpected {type(error).__name__}: {error}", hint="run it again with EDGEFL_DEBUG=1")
    return EdgeflError(f"unexpected {type(error).__name__}: {error}", hint=f"the details are in {report}")
