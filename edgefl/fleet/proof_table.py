"""A proof as a table: one row a host, one column a kind of destination."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgefl.fleet.evidence import Proof, Result
from edgefl.fleet.probes import KINDS, OPERATOR, Kind

if TYPE_CHECKING:
    from rich.table import Table

_TITLES: dict[Kind, str] = {
    "service": "fleet port",
    "coordinator": "coordinator",
    "peers": "devices",
    "internet": "internet",
    "dns": "DNS",
    "loopback": "own loopback",
    "operator": "operator",
}


def table(proof: Proof) -> Table:
    """The matrix: what is open as it must be, how many paths are closed, and in red what is not as the site says."""
    from rich.table import Table

    shown = Table(title=f"isolation of {proof.site}, {proof.at[:19].replace('T', ' ')} UTC", title_justify="left", box=None)
    shown.add_column("from", style="bold")
    for kind in KINDS:
        shown.add_column(_TITLES[kind])
    shown.add_column("from operator")
    for host in hosts(proof):
        outgoing = [result for result in proof.results if result.probe.host == host]
        incoming = [result for result in proof.results if result.probe.host == OPERATOR and result.probe.target == host]
        shown.add_row(host, *(_cell(r for r in outgoing if r.probe.kind == kind) for kind in KINDS), _cell(incoming))
    return shown


def hosts(proof: Proof) -> list[str]:
    """Every host that was probed, the coordinator first."""
    return [name for name in dict.fromkeys(result.probe.host for result in proof.results) if name != OPERATOR]


def _cell(results: Iterable[Result]) -> str:
    results = list(results)
    if not results:
        return "[dim]·[/]"
    wrong = sum(not result.is_as_expected for result in results)
    allowed = sum(result.probe.expected == "open" for result in results)
    closed = len(results) - allowed
    parts = [f"[red]✖ {wrong}[/]"] if wrong else []
    parts += [f"[green]{allowed} open[/]"] if allowed else []
    parts += [f"{closed} closed"] if closed else []
    return " ".join(parts)
