"""`edgefl verify`: what every host reaches and what not, proven now."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.fleet.evidence import Proof

SITE = True
_EPILOG = """\
examples:
  edgefl verify                    try every path from every host, sign the matrix and keep it in .edgefl/proofs
  edgefl verify edge-03            one device
  edgefl verify --last             show the last proof, after checking its signature
  edgefl verify --json --last      every path with what was seen, and what is otherwise than in the proof before

exit codes: 0 isolated · 2 no such host · 14 nothing is provisioned · 21 a host does not answer
            40 a path is not as the site says
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="hosts to probe (default: all)")
    parser.add_argument("--last", action="store_true", help="show the last proof instead of making one")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Probe, or read the last proof; show the matrix either way."""
    from edgefl.fleet.hosts import select
    from edgefl.fleet.proof import NotIsolated
    from edgefl.operations.state import inventory_of
    from edgefl.operations.verify import verify
    from edgefl.site import load

    site = load(args.site)
    inventory = inventory_of(site)
    if not args.last:
        try:
            await out.stream(verify(site, inventory, [host.name for host in select(inventory, args.hosts)]))
        except NotIsolated:
            _show(site.state, out)
            raise
    proof = _show(site.state, out)
    if proof is None:
        return ExitCode.NOT_PROVISIONED
    if proof.breaches:
        raise NotIsolated(proof.breaches)
    return ExitCode.OK


def _show(state: Path, out: Output) -> Proof | None:
    """Show the last proof beside the one before it; None when there is none."""
    from dataclasses import asdict

    from rich.console import Group
    from rich.text import Text

    from edgefl.fleet import evidence
    from edgefl.fleet.proof_table import table

    if (proof := evidence.latest(state)) is None:
        out.result({"proof": None}, "nothing is proven yet: edgefl verify")
        return None
    before = evidence.latest(state, proof.previous) if proof.previous else None
    compared = evidence.compared(before, proof) if before else None
    mapping = {
        "site": proof.site,
        "at": proof.at,
        "sha256": proof.sha256,
        "previous": proof.previous,
        "since": asdict(compared) if compared else None,
        "paths_probed": len(proof.results),
        "forbidden_paths_open": sum(result.probe.expected == "closed" for result in proof.breaches),
        "breaches": [str(result) for result in proof.breaches],
        "paths": [asdict(result.probe) | {"observed": result.observed, "evidence": result.evidence} for result in proof.results],
    }
    lines = [Text(f"  ✖ {result}", "red") for result in proof.breaches]
    lines += [Text(f"  {compared}", "dim"), *(Text(f"  ~ {what}", "yellow") for what in compared.changed)] if compared else []
    out.result(mapping, Group(table(proof), *lines))
    return proof
