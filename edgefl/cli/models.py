"""`edgefl models`: every round's global model, what it came from, and how to take or choose one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefl.cli.actions import actions
from edgefl.errors import EdgeflError, ExitCode
from edgefl.progress import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgefl.cli.output import Output

SITE = True
_EPILOG = """\
A MODEL is RUN/ROUND, RUN (its newest), `last` or `best`; a run's number may be cut short where it stays unique.

examples:
  edgefl models list
  edgefl models show best                what it came from, who took part, what privacy it cost
  edgefl models compare 7/3 last         metrics side by side, distance and angle of every layer
  edgefl models export best --out dist   safetensors and a card as JSON; needs neither torch nor numpy here
  edgefl models rollback 7/3 --why "round 4 was poisoned"
  edgefl models rollback --undo          the next run starts from the task's own model again
  edgefl models list --json | jq '.models[] | [.name, .metrics.accuracy]'

exit codes: 0 done · 1 the export cannot be written · 2 no such model (the nearest is named) · 14 not provisioned
            33 the authority's key does not open · 52 a model is damaged · 60 the coordinator does not answer
"""
_ACTIONS = {
    "list": "every version that the coordinator keeps, oldest first",
    "show": "one version: lineage, metrics, privacy spent",
    "compare": "two versions side by side",
    "export": "write a version and its card here; the coordinator keeps it for good",
    "rollback": "have the next run start from an earlier version",
}


class NoName(EdgeflError):
    """The model's name is empty."""

    exit_code = ExitCode.USAGE


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own actions, arguments and examples."""
    parser.epilog = _EPILOG
    made = actions(parser, _ACTIONS)
    made["show"].add_argument("model", nargs="?", default="last", help="default: last")
    made["compare"].add_argument("model", help="the one")
    made["compare"].add_argument("other", nargs="?", default="last", help="the other (default: last)")
    made["export"].add_argument("model", nargs="?", default="last", help="default: last")
    made["export"].add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")
    which = made["rollback"].add_mutually_exclusive_group(required=True)
    which.add_argument("model", nargs="?", help="what the next run starts from")
    which.add_argument("--undo", action="store_true", help="the next run starts from the task's own model")
    made["rollback"].add_argument("--why", default="", metavar="TEXT", help="for the journal")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Ask the monitor, or do it."""
    from edgefl.operations import models
    from edgefl.operations.watch import watching
    from edgefl.site import load

    site = load(args.site)
    if args.action == "export":
        seen = await out.stream(models.export(site, args.model, args.out))
        out.result(dict(seen[-1].detail))
        return ExitCode.OK
    if args.action == "rollback":
        seen = await out.stream(models.rollback(site, "" if args.undo else _named(args.model), args.why))
        out.result(dict(seen[-1].detail), "  next: edgefl run")
        return ExitCode.OK
    async with watching(site) as monitor:
        if args.action == "list":
            said = await monitor.models()
            out.result(said, table(said))
        elif args.action == "show":
            said = await monitor.model(args.model)
            out.result(said, page(said))
        else:
            said = await monitor.compare_models(args.model, args.other)
            out.result(said, beside(said))
    return ExitCode.OK


def _named(model: str) -> str:
    """The model that was meant; an empty name (of a shell's variable that is not set) would undo the choice instead."""
    if not model:
        raise NoName("no model is named", hint="edgefl models list; --undo takes a choice back")
    return model


def table(said: Mapping[str, Any]) -> RenderableType:
    """One line a version."""
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import number, size

    if not said["models"]:
        return Text("no models yet\n  next: edgefl run")
    drawn = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("MODEL", "ACC", "LOSS", "SIZE", "WHEN", "FROM", "SHA-256", ""):
        drawn.add_column(column, justify="right" if column in {"ACC", "LOSS", "SIZE"} else "left", no_wrap=True)
    for row in said["models"]:
        metrics = row["metrics"]
        told = [
            row["name"],
            number(metrics.get("accuracy"), 3),
            number(metrics.get("loss"), 3),
            size(row["bytes"]),
            _time(row["at"]),
            row["parent"] or "the task's own",
            row["sha256"][:12],
        ]
        drawn.add_row(*map(Text, told), Text(" ".join(row["marks"]), "green"))
    return drawn


def page(card: Mapping[str, Any]) -> RenderableType:
    """Everything about one version."""
    from rich.console import Group
    from rich.text import Text

    from edgefl.console.figures import number, size

    lineage, journal, privacy = card["lineage"], card["lineage"]["journal"], card["privacy"]
    ledgers = {**privacy["devices"], **({"the models": privacy["models"]} if privacy.get("models") else {})}
    spent = [f"{name} {said['spent']:.3f}/{said['limit']:g}" for name, said in ledgers.items()]
    facts = [
        ("model", f"{card['sha256']}  {size(card['bytes'])}  {_time(card['at'])}"),
        ("metrics", ", ".join(f"{name} {number(value, 4)}" for name, value in card["metrics"].items()) or "not measured"),
        ("from", f"{lineage['parent']}  {lineage['parent_sha256'][:12]}" if lineage["parent"] else "the task's own model"),
        ("trained", f"{lineage['task']}, {lineage['rule']}, optimiser {lineage['optimiser']}, training {lineage['training']}"),
        ("site", f"{lineage['site']}  {lineage['site_hash'][:12]}"),
        *((name, " ".join(lineage[name]) or "—") for name in ("participants", "flagged", "rejected", "dropped")),
        ("privacy", f"ε at most {privacy['spent']:.3f}: {', '.join(spent)}" if spent else "no differential privacy"),
        ("journal", f"{'✔ agrees' if journal['agrees'] else '✖ does not agree'}, head {journal['seq']} {journal['hash'][:12]}"),
    ]
    head = Text.assemble((card["name"], "bold"), "  ", (" ".join(card["marks"]), "green"))
    return Group(head, _facts(facts))


def beside(said: Mapping[str, Any]) -> RenderableType:
    """Two versions: metrics, relation, layers."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import number

    a, b, relation = said["a"], said["b"], said["relation"]
    head = Text.assemble((a["name"], "bold"), " and ", (b["name"], "bold"), f"   {_relation(relation)}")
    metrics = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("METRIC", a["name"], b["name"], "CHANGE"):
        metrics.add_column(Text(column), justify="left" if column == "METRIC" else "right", no_wrap=True)
    for name, values in said["metrics"].items():
        change = "—" if values["change"] is None else f"{values['change']:+.4f}"
        metrics.add_row(Text(name), number(values["a"], 4), number(values["b"], 4), change)
    layers = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("LAYER", "SHAPE", "NORM", "NORM", "DISTANCE", "COSINE"):
        layers.add_column(column, justify="left" if column in {"LAYER", "SHAPE"} else "right", no_wrap=True)
    for layer in [*said["layers"], {**said["whole"], "name": "all of it"}]:
        layers.add_row(
            Text(printable(layer["name"])),
            "×".join(map(str, layer["shape"])),
            *(number(norm, 4) for norm in layer["norms"]),
            number(layer["distance"], 4),
            number(layer["cosine"], 6),
        )
    only = [
        Text(f"only in {one['name']}: {printable(', '.join(said[key]))}")
        for one, key in ((a, "only_a"), (b, "only_b"))
        if said[key]
    ]
    return Group(head, metrics, Text(), layers, *only)


def _relation(said: Mapping[str, Any]) -> str:
    if not said["ancestor"]:
        return "not known to come from one model"
    return f"both from {said['ancestor']}, {said['rounds_a']} and {said['rounds_b']} rounds ago"


def _facts(facts: list[tuple[str, str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    for name, value in facts:
        grid.add_row(name, Text(printable(value)))
    return grid


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
