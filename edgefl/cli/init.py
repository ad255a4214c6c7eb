"""`edgefl init`: a first, commented site.yaml."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

_EPILOG = """\
examples:
  edgefl init clinic                      a lab of 4 devices on this machine, in ./clinic
  edgefl init clinic --devices 10
  edgefl init clinic --module static      for devices that exist; fill in their addresses
  edgefl init clinic --module own         for hosts that a Terraform module of yours makes; put it into ./terraform

exit codes: 0 written · 1 a site.yaml is there already
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("directory", type=Path, nargs="?", default=Path(), help="where to write it (default: here)")
    parser.add_argument("--name", help="the site's name (default: the directory's)")
    parser.add_argument("--module", choices=["lab", "static", "own"], default="lab", help="where hosts come from (default: lab)")
    parser.add_argument("--devices", type=_count, default=4, metavar="N", help="how many devices (default: 4)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Write the files; never overwrite a site.yaml."""
    from edgefl.site import load, scaffold

    written = scaffold.write(args.directory, module=args.module, devices=args.devices, name=args.name)
    site = load(args.directory)
    shown = "\n".join(f"[green]✔[/] {path}" for path in written)
    step = {"static": "fill in the addresses, then: ", "own": "put your module into ./terraform, then: "}.get(args.module, "")
    there = "" if args.directory == Path() else f"cd {args.directory} && "
    out.result(
        {"site": site.name, "devices": len(site.devices), "files": [str(path) for path in written]},
        f"{shown}\n  next: {step}{there}edgefl up",
    )
    return ExitCode.OK


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 200:
        raise argparse.ArgumentTypeError("1 to 200 devices")
    return count
