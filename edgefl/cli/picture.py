"""A summary as a person enjoys reading it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgefl.monitor.device import DeviceRow, Flag
from edgefl.operations.summary import Stage, Summary
from edgefl.progress import printable

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
_NUMBERS = ("SAMPLES", "ACC", "TRUST", "FLAGS")


def picture(summary: Summary, directory: Path) -> RenderableType:
    """The whole summary, at most 100 columns wide."""
    shown = [_stages(summary.stages), _training(summary), _devices(summary), *_matrix(summary), _findings(summary)]
    parts = [*shown, _places(summary, directory)]
    title = f"[bold]{summary.state.site}[/] · run {summary.state.run.id if summary.state.run else '—'}"
    return Panel(
        Group(*(Padding(part, (0, 0, 1, 0)) for part in parts)), title=title, title_align="left", width=104, padding=(1, 2, 0, 2)
    )


def sparkline(values: Sequence[float]) -> str:
    """One character per value, scaled between the smallest and the largest."""
    if not values:
        return ""
    low, span = min(values), max(values) - min(values)
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] if span else _BARS[-1] for value in values)


def _stages(stages: Sequence[Stage]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    added = [(name, sum(stage.seconds for stage in group)) for name, group in groupby(stages, key=lambda stage: stage.name)]
    longest = max((seconds for _, seconds in added), default=1.0) or 1.0
    for name, seconds in added:
        table.add_row(name, Text("━" * max(1, round(seconds / longest * _WIDTH)), "cyan"), f"{seconds:6.1f} s")
    table.add_row("", "", Text(f"{sum(seconds for _, seconds in added):6.1f} s", "bold"))
    return _titled("Where the time went", table)


def _training(summary: Summary) -> RenderableType:
    curve = summary.curve
    table = Table.grid(padding=(0, 2))
    if curve:
        table.add_row(
            "accuracy", Text(sparkline(curve), "green"), f"{curve[0]:.3f} → [bold]{curve[-1]:.3f}[/] in {len(curve)} rounds"
        )
    if summary.clean_floor is not None and summary.accuracy is not None:
        reached = summary.accuracy >= summary.clean_floor
        mark = "[green]✔ reached[/]" if reached else "[red]✖ missed[/]"
        table.add_row("floor", f"{summary.clean_floor:.3f}", f"{mark}, from the same run without an attacker")
    return _titled("Training", table)


def _devices(summary: Summary) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("DEVICE", "STATE", "SAMPLES", "ACC", "ε SPENT / LIMIT", "TRUST", "FLAGS", "ISOLATION"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for row in summary.state.devices.values():
        flags = len(_flags(summary, row))
        accuracy = "—" if row.accuracy is None else f"{row.accuracy:.2f}"
        table.add_row(
            row.name,
            Text(f"⚑ {row.state}" if row.suspect else row.state, "bold red" if row.suspect else ""),
            str(row.samples or "—"),
            accuracy,
            _budget(row),
            f"{row.reputation:.2f}",
            Text(str(flags) if flags else "·", "bold red" if flags else "dim"),
            _isolation(row),
        )
    return _titled("Devices", table)


def _budget(row: DeviceRow) -> Text:
    limit = row.epsilon.limit or 0.0
    full = round(row.epsilon.share * 10)
    return Text.assemble(("█" * full, "cyan"), ("░" * (10 - full), "dim"), f" {row.epsilon.spent:.1f} / {limit:.1f}")


def _isolation(row: DeviceRow) -> Text:
    if row.isolation is None:
        return Text("not proven", "yellow")
    if row.isolation.holds:
        return Text(f"✔ {row.isolation.probes} probes", "green")
    return Text(f"✖ {len(row.isolation.open_forbidden) + len(row.isolation.closed_required)} wrong", "bold red")


def _matrix(summary: Summary) -> list[RenderableType]:
    """Which paths were tried from where, host by host; nothing before the first proof."""
    from edgefl.fleet.proof_table import table

    if summary.proof is None:
        return []
    told = f"paths [green]open[/]/closed, [bold red]✖[/] not as the site says; signed {summary.proof.at[11:19]} UTC"
    return [_titled("Isolation", Group(Text.from_markup(told, style="dim"), table(summary.proof, compact=True)))]


def _findings(summary: Summary) -> RenderableType:
    lines = Table.grid(padding=(0, 2))
    for row in summary.state.devices.values():
        if flags := _flags(summary, row):
            rounds = ", ".join(str(flag.round) for flag in flags)
            evidence = f"score {flags[-1].score:.2f} against a threshold of {flags[-1].threshold:.2f}"
            lines.add_row(Text(f"⚑ {row.name}", "bold red"), Text(printable(f"rounds {rounds}: {flags[-1].reason}; {evidence}")))
    for name in summary.compromised:
        lines.add_row(Text(name, "bold"), "was really compromised by the demo")
    if not lines.row_count:
        lines.add_row("nobody was flagged")
    return _titled("Flags", lines)


def _flags(summary: Summary, row: DeviceRow) -> list[Flag]:
    run = summary.state.run.id if summary.state.run else ""
    return [flag for flag in row.flags if flag.run == run]


def _places(summary: Summary, directory: Path) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("model", Text(summary.model))
    table.add_row("journal", Text(summary.journal))
    table.add_row("result", Text(str(directory / ".edgefl" / "result.json")))
    table.add_row("")
    for command, what in (
        ("console", "watch and steer"),
        ("status", "headless, with an exit code"),
        ("down", "leave nothing behind"),
    ):
        typed = Text(f"{program()} {command} --site {directory}", "bold")
        table.add_row("next" if command == "console" else "", Text.assemble(typed, ("   " + what, "dim")))
    return _titled("Where it lies", table)


def program() -> str:
    """How to call edgefl from here: by its name where the shell finds it, else by the way to it (`.venv/bin/edgefl`)."""
    if shutil.which("edgefl"):
        return "edgefl"
    script = Path(sys.executable).with_name("edgefl")
    if not script.exists():
        return f"{sys.executable} -m edgefl"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def _titled(title: str, content: RenderableType) -> RenderableType:
    return Group(Text(title, "bold underline"), content)
