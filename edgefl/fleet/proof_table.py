"""A proof as a table: one row a host, one column a kind of destination."""

from __future__ import annotations

from collections.abc import Sequence
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
    "allowed": "allowed",
}


def table(proof: Proof, *, compact: bool = False) -> Table:
    """The matrix: what is open as it must be, how many paths are closed, and in red what is not as the site says.

    compact: numbers alone (`open/closed`, `✖` before those that are wrong) and no title, for 98 columns.
    """
    from rich.table import Table

    title = None if compact else f"isolation of {proof.site}, {proof.at[:19].replace('T', ' ')} UTC"
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0) if compact else (0, 1), header_style="dim")
    shown.add_column("from", style="bold")
    kinds = [kind for kind in KINDS if kind != "allowed" or any(result.probe.kind == kind for result in proof.results)]
    for kind in kinds:
        shown.add_column(_TITLES[kind])
    shown.add_column("from operator")
    for host in hosts(proof):
        outgoing = [result for result in proof.results if result.probe.host == host]
        incoming = [result for result in proof.results if result.probe.host == OPERATOR and result.probe.target == host]
        cell = _numbers if compact else _cell
        shown.add_row(host, *(cell([r for r in outgoing if r.probe.kind == kind]) for kind in kinds), cell(incoming))
    return shown


def hosts(proof: Proof) -> list[str]:
    """Every host that was probed, the coordinator first."""
    return [name for name in dict.fromkeys(result.probe.host for result in proof.results) if name != OPERATOR]


def _numbers(results: Sequence[Result]) -> str:
    if not results:
        return "[dim]·[/]"
    wrong, allowed, closed = _counts(results)
    return (f"[bold red]✖{wrong}[/] " if wrong else "") + f"[green]{allowed}[/]/{closed}"


def _cell(results: Sequence[Result]) -> str:
    if not results:
        return "[dim]·[/]"
    wrong, allowed, closed = _counts(results)
    parts = [f"[red]✖ {wrong}[/]"] if wrong else []
    parts += [f"[green]{allowed} open[/]"] if allowed else []
    parts += [f"{closed} closed"] if closed else []
    return " ".join(parts)


def _counts(results: Sequence[Result]) -> tuple[int, int, int]:
    """How many are wrong, how many must be open, how many closed."""
    allowed = sum(result.probe.expected != "closed" for result in results)
    return sum(not result.is_as_expected for result in results), allowed, len(results) - allowed
