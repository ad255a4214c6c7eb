"""`edgefl plan`: what `up` would do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode
from edgefl.progress import Finished, Step

if TYPE_CHECKING:
    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
Infrastructure (Terraform), configuration (Ansible's check mode with diff) and certificates as one plan.

examples:
  edgefl plan
  edgefl plan --json | jq 'select(.changed)'

exit codes: 0 shown, whether or not anything would change · 11 task · 12 locked · 20 no Terraform · 21 a host does not answer
            22 Terraform · 30 not fit · 31 Ansible · 32 bundle · 33 the authority's key does not open
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Show the plan, stage by stage."""
    from edgefl.operations.plan import plan
    from edgefl.site import load

    site = load(args.site, with_files=True)
    out.with_differences = True
    seen = await out.stream(plan(site))
    changes = [event for event in seen if isinstance(event, Step) and event.changed]
    changed = bool(changes) or any(isinstance(event, Finished) and event.changed for event in seen)
    text = f"\n{len(changes)} changes\n  next: edgefl up" if changed else f"\n[green]✔[/] {site.name} is as site.yaml says"
    out.result({"site": site.name, "changed": changed, "changes": len(changes)}, text)
    return ExitCode.OK
