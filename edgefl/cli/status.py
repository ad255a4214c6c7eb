"""`edgefl status`: is it well, and if not, what needs attention."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output
    from edgefl.monitor.health import Concern
    from edgefl.monitor.status import Status

SITE = True
_EPILOG = """\
examples:
  edgefl status
  edgefl status --json | jq .attention
  edgefl status || notify-send "the federation needs you"

exit codes: 0 healthy · 14 not provisioned · 33 the authority's key does not open · 60 the coordinator does not answer
            61 the journal was tampered with
            70 something needs attention: a device offline, flagged or out of budget, a certificate about to end, a failed run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Ask the monitor once."""
    from edgefl.errors import EdgeflError
    from edgefl.events.chain import JournalBroken
    from edgefl.monitor.health import Concern, concerns
    from edgefl.operations.remember import remember
    from edgefl.operations.watch import watching
    from edgefl.site import load

    site, broken = load(args.site), False
    async with watching(site) as monitor:
        status = await monitor.status(updates=False)
        found = concerns(status)
        try:
            await remember(site, monitor)
        except EdgeflError as error:  # what was read before is no longer there; or this machine cannot keep it
            broken = isinstance(error, JournalBroken)
            found = [Concern("journal", error.what, error.hint), *found]
    out.result({**summary(status), "attention": [concern.as_dict() for concern in found]}, text(status, found))
    if broken or status.broken_seq:
        return ExitCode.JOURNAL_BROKEN
    return ExitCode.DEGRADED if found else ExitCode.OK


def summary(status: Status) -> dict[str, object]:
    """The federation in a dozen figures."""
    state, run = status.state, status.state.run
    rows = [row for row in state.devices.values() if row.state != "removed"]
    measured = [row for row in state.rounds if row.accuracy is not None]
    lost = [row for row in state.rounds if row.loss is not None]
    ends = [one.not_after for one in state.certificates.values() if not one.revoked and one.role != "operator"]
    budgets = [*(row.epsilon for row in rows), *([state.models] if state.models else [])]
    return {
        "site": state.site,
        "seq": state.seq,
        "run": run.id if run else None,
        "run_status": run.status if run else None,
        "round": state.rounds[-1].number if state.rounds else 0,
        "rounds": run.rounds if run else 0,
        "accuracy": measured[-1].accuracy if measured else None,
        "loss": lost[-1].loss if lost else None,
        "devices": len(rows),
        "online": sum(bool(row.connected) for row in rows),
        "quorum": status.quorum,
        "epsilon_spent_max": max((budget.spent for budget in budgets), default=0.0),
        "flagged": [row.name for row in rows if row.suspect],
        "isolated": sum(row.isolation is not None and row.isolation.holds for row in rows),
        "certificates_end_at": min(ends) if ends else None,
    }


def text(status: Status, found: list[Concern]) -> str:
    """What a person reads: two lines of figures, then what needs attention."""
    from edgefl.cli.output import safe
    from edgefl.console.figures import number, span, sparkline

    said = summary(status)
    rounds = status.state.rounds
    curve = sparkline([row.accuracy for row in rounds if row.accuracy is not None], 20)
    falling = sparkline([row.loss for row in rounds if row.loss is not None], 20)
    where = f"run {said['run']} {said['run_status']}, round {said['round']}/{said['rounds']}" if said["run"] else "no run yet"
    ends = min((one.not_after for one in status.state.certificates.values() if not one.revoked), default=None)
    certificates = span((ends - status.now).total_seconds()) if ends else "—"
    accuracy, loss = status.state.rounds and said["accuracy"], said["loss"]
    lines = [
        f"[bold]{safe(str(said['site']))}[/] · {where}",
        f"{said['online']}/{said['devices']} devices online (quorum {said['quorum']}) · "
        f"acc {number(_float(accuracy), 3)} [green]{curve}[/] · loss {number(_float(loss), 3)} [cyan]{falling}[/]",
        f"ε max {said['epsilon_spent_max']:.2f} · certificates {certificates} · isolated {said['isolated']}/{said['devices']}",
        "",
    ]
    if not found:
        return "\n".join([*lines, "[green]✔[/] healthy"])
    for concern in found:
        lines.append(f"[yellow]![/] [bold]{safe(concern.subject)}[/] {safe(concern.what)}")
        lines += [f"    next: {safe(concern.hint)}"] if concern.hint else []
    return "\n".join(lines)


def _float(value: object) -> float | None:
    return value if isinstance(value, float) else None
