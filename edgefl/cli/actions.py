"""Commands with actions of their own: `edgefl models list`, `edgefl certs rotate`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path


def actions(parser: argparse.ArgumentParser, meanings: Mapping[str, str]) -> dict[str, argparse.ArgumentParser]:
    """A parser for each action, by name, with the command's own examples. meanings: what each is for.

    `--json` and `--site` may stand behind the action as well as before it.
    """
    kinds = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {}
    for name, text in meanings.items():
        made[name] = kinds.add_parser(
            name, help=text, description=text, epilog=parser.epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        made[name].add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line")
        made[name].add_argument("--site", type=Path, default=argparse.SUPPRESS, metavar="DIR", help="directory of site.yaml")
    return made
