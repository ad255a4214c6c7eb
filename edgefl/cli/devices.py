"""`edgefl devices`: the fleet as a table, or one device with its evidence."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError, ExitCode
from edgefl.progress import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgefl.cli.output import Output
    from edgefl.monitor.device import Certificate, DeviceRow, Epsilon, Isolation

SITE = True
_EPILOG = """\
examples:
  edgefl devices
  edgefl devices edge-07              its facts, certificate, budget, isolation, and every flag with its evidence
  edgefl devices --json | jq '.devices[] | select(.state == "suspect") | .name'

exit codes: 0 done · 2 no such device · 14 not provisioned · 33 the authority's key does not open
            60 the coordinator does not answer
"""
_COLUMNS = ("DEVICE", "STATE", "ROUND", "ACC", "LOSS", "SAMPLES", "ε SPENT / LIMIT", "TRUST", "CERT", "UP/DOWN", "CPU", "SEEN")
_TONES = {
    "suspect": "red",
    "offline": "red",
    "quarantined": "red",
    "drained": "yellow",
    "training": "cyan",
    "waiting": "green",
    "online": "green",
}


class NoSuchDevice(EdgeflError):
    """The site has no device of that name."""

    exit_code = ExitCode.USAGE


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("device", nargs="?", help="one device (default: all)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Ask the monitor once."""
    from edgefl.operations.watch import watching
    from edgefl.site import load

    async with watching(load(args.site)) as monitor:
        status = await monitor.status(updates=False)
    rows = status.state.devices
    said = status.as_dict(updates=False)["state"]["devices"]
    if args.device is None:
        out.result({"seq": status.state.seq, "devices": list(said.values())}, table(list(rows.values()), status.now))
        return ExitCode.OK
    if args.device not in rows:
        raise NoSuchDevice(f"the site has no device {args.device!r}", hint=f"one of {', '.join(rows)}")
    out.result(said[args.device], page(rows[args.device], status.now))
    return ExitCode.OK


def table(rows: list[DeviceRow], now: datetime) -> RenderableType:
    """One line a device, as the console's Fleet view."""
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import age, count, number, percent, size, span

    drawn = Table(box=None, header_style="dim", pad_edge=False)
    for column in _COLUMNS:
        drawn.add_column(column, justify="left" if column in {"DEVICE", "STATE"} else "right", no_wrap=True)
    for row in rows:
        limit = f"{row.epsilon.limit:g}" if row.epsilon.limit else "—"
        left = (row.certificate.not_after - now).total_seconds() if row.certificate else None
        drawn.add_row(
            row.name,
            Text(row.state, _TONES.get(row.state, "dim")),
            str(row.round or "—"),
            number(row.accuracy),
            number(row.loss),
            count(row.samples),
            f"{row.epsilon.spent:.2f} / {limit}",
            number(row.reputation),
            "revoked" if row.certificate and row.certificate.revoked else span(left),
            f"{size(row.update_bytes_up)}/{size(row.update_bytes_down)}",
            percent(row.cpu),
            age((now - row.seen).total_seconds() if row.seen else None),
        )
    return drawn


def page(row: DeviceRow, now: datetime) -> RenderableType:
    """Everything about one device."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import age, number

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    for name, value in _facts(row, now):
        facts.add_row(name, Text(printable(value)))
    head = Text.assemble((row.name, "bold"), "  ", (row.state, _TONES.get(row.state, "dim")), f"  {row.detail}")
    if not row.flags:
        return Group(head, facts)
    flags = Table(box=None, header_style="dim", pad_edge=False, title=f"flags ({row.flag_count})", title_justify="left")
    for column in ("RUN", "ROUND", "RULE", "SCORE", "LIMIT", "PEERS", "WHEN", "WHY"):
        flags.add_column(column, justify="right" if column in {"ROUND", "SCORE", "LIMIT"} else "left")
    for flag in reversed(row.flags):
        spread = f"{number(min(flag.peers))}…{number(max(flag.peers))}" if flag.peers else "—"
        when = age((now - flag.at).total_seconds())
        flags.add_row(
            flag.run,
            str(flag.round),
            flag.rule,
            number(flag.score),
            number(flag.threshold),
            spread,
            when,
            Text(printable(flag.reason)),
        )
    return Group(head, facts, flags)


def _facts(row: DeviceRow, now: datetime) -> list[tuple[str, str]]:
    from edgefl.console.figures import number, size

    system = " ".join(filter(None, (row.distribution, row.release)))
    known = [row.architecture, f"{row.cores or '—'} cores", f"{row.memory_mb or '—'} MiB", row.address, system, *row.accelerators]
    host = ", ".join(part for part in known if part)
    sent = f"{row.updates} updates, {row.rejected} rejected, {row.dropped} missing"
    left_out = [("left out", f"of the last up: {row.unfit}")] if row.unfit else []
    return [
        ("host", host),
        *left_out,
        ("budget", _budget(row.epsilon)),
        ("trust", f"{number(row.reputation)}, {row.conduct or 'no verdict yet'}"),
        ("certificate", _certificate(row.certificate, now)),
        ("isolation", _isolation(row.isolation, now)),
        ("last round", f"{row.round or '—'}, accuracy {number(row.accuracy, 3)}, loss {number(row.loss, 3)}"),
        ("updates", f"{sent}; {size(row.bytes_up)} up, {size(row.bytes_down)} down"),
    ]


def _budget(epsilon: Epsilon) -> str:
    parts = [f"ε {epsilon.spent:.3f} / {epsilon.limit:g}" if epsilon.limit else "—", f"this run {epsilon.run_spent:.3f}"]
    if epsilon.rounds_left is not None:
        parts.append(f"{epsilon.rounds_left} rounds left")
    if epsilon.sigma is not None:
        parts.append(f"σ {epsilon.sigma:.3g}, δ {epsilon.delta:g}")
    if epsilon.refused:
        parts.append(f"refused: {epsilon.refused}")
    return ", ".join(parts)


def _certificate(certificate: Certificate | None, now: datetime) -> str:
    from edgefl.console.figures import span

    if certificate is None:
        return "—"
    left_s = (certificate.not_after - now).total_seconds()
    state = f"revoked: {certificate.revoked}" if certificate.revoked else f"ends in {span(left_s)}" if left_s > 0 else "expired"
    return f"{certificate.serial[:16]}…, {state}"


def _isolation(proof: Isolation | None, now: datetime) -> str:
    from edgefl.console.figures import age

    if proof is None:
        return "never probed"
    wrong = [*(f"reaches {place}" for place in proof.open_forbidden), *(f"misses {place}" for place in proof.closed_required)]
    wrong += (
        [f"{what} since, {'healed' if proof.drift.healed else 'NOT healed'}" for what in proof.drift.found] if proof.drift else []
    )
    verdict = f"✖ {', '.join(wrong)}" if wrong else "✔ proven"
    return f"{verdict}, {proof.probes} probes, {age((now - proof.at).total_seconds())} ago"
