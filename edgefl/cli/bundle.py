"""`edgefl bundle`: all that hosts install, in one signed directory, for sites without an internet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.cli.actions import actions
from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
A bundle holds wheels for each of runtime.architectures, Debian packages, edgefl's code, the task, their checksums, a list of
contents (sbom.cdx.json, CycloneDX) and the signature of the site's authority. `up` builds it by itself, into .edgefl/bundle.

examples:
  edgefl bundle build                          fetch, put together, sign; nothing happens where it stands
  edgefl bundle build --output /media/usb/b    somewhere else, to be carried
  edgefl bundle verify /media/usb/b            read every file, and say which one is wrong
  edgefl bundle push                           to every host that is provisioned, over a slow link ahead of an upgrade
  edgefl bundle push edge-03 --bundle /media/usb/b

Only what a host lacks travels, and a push that was cut off goes on where it stopped. Hosts install nothing of it yet, and
refuse what is corrupt or not signed by their own site's authority.

exit codes: 0 done · 2 no such host · 12 locked · 14 nothing is provisioned (push) · 21 a host does not answer · 31 Ansible
            32 it cannot be built, or is corrupt or not signed · 33 the authority's key does not open
"""


_ACTIONS = {
    "build": "fetch what is missing, put it together, sign it",
    "verify": "read every file, and check the signature",
    "push": "bring its files to hosts, and install nothing",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    made = actions(parser, _ACTIONS)
    build, verify, push = made.values()
    build.add_argument("--output", type=Path, metavar="DIR", help="where it is to lie (default: .edgefl/bundle)")
    verify.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="a bundle's directory (default: .edgefl/bundle)")
    push.add_argument("hosts", nargs="*", metavar="HOST", help="hosts to push to (default: all)")
    push.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle's directory (default: .edgefl/bundle)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Build, verify or push."""
    from edgefl.fleet.bundle import Bundle
    from edgefl.fleet.hosts import select
    from edgefl.operations import bundle
    from edgefl.operations.state import bundle_directory, inventory_of
    from edgefl.site import load

    site = load(args.site, with_files=args.action == "build")
    if args.action == "build":
        place = args.output or bundle_directory(site)
        await out.stream(bundle.build(site, place))
    elif args.action == "verify":
        place = args.bundle or bundle_directory(site)
        await out.stream(bundle.verify(site, place))
    else:
        place = args.bundle or bundle_directory(site)
        hosts = [host.name for host in select(inventory_of(site), args.hosts)]
        await out.stream(bundle.push(site, place, hosts))
    found = bundle.about(Bundle.load(place))
    out.result({"action": args.action, **found}, f"  version {found['version']} in {place}")
    return ExitCode.OK
