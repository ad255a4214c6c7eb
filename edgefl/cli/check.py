"""`edgefl check`: everything that is wrong with a site, before anything is touched."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.site import Site

SITE = True
_EPILOG = """\
examples:
  edgefl check                        the site here
  edgefl check --site clinic --json   every finding with file, line and the nearest right thing
  edgefl check --schema               the JSON schema of site.yaml, for editors

exit codes: 0 valid · 10 site.yaml is wrong · 11 the task is wrong · 32 no bundle can be built for what `runtime` asks
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of site.yaml and stop")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Load the site with the files it names, then look at the task without importing it, and at where torch would come from."""
    from edgefl.site import load, schema, site_hash

    if args.schema:
        from rich.syntax import Syntax

        out.result(schema.schema(), Syntax(schema.text(), "json", background_color="default"))
        return ExitCode.OK
    site = load(args.site, with_files=True)

    from edgefl.fleet import wheels
    from edgefl.operations.task import prove_task

    await out.stream(prove_task(site))
    for warning in wheels.foreseen(site):
        out.progress(warning)
    budget = f"ε {site.privacy.epsilon_per_run:g} of {site.privacy.epsilon_limit:g}"
    privacy = {"dp-sgd": budget, "client": f"{budget} for whole devices", "none": "off"}[site.privacy.mode]
    out.result(
        {
            "site": site.name,
            "hash": site_hash(site),
            "module": site.infrastructure.module,
            "devices": [device.name for device in site.devices],
            "quorum": site.quorum,
            "task": site.task.module,
            "rounds": site.run.rounds,
            "rule": site.aggregation.rule,
        },
        f"[green]✔[/] {site.name} is valid: {_devices(site)}, "
        f"{site.run.rounds} rounds of {site.task.module}, {site.aggregation.rule}, privacy {privacy}",
    )
    return ExitCode.OK


def _devices(site: Site) -> str:
    """Which devices, and how many of them a round needs."""
    if site.devices:
        return f"{len(site.devices)} devices on {site.infrastructure.module}, quorum {site.quorum}"
    return f"the devices that {site.infrastructure.source} makes, quorum {site.run.quorum:.0%}"
