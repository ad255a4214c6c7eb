"""`edgefl rounds`: how the model got better, and where each round's time went."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError, ExitCode
from edgefl.progress import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgefl.cli.output import Output
    from edgefl.monitor.round import RoundRow
    from edgefl.monitor.state import FederationState

SITE = True
_EPILOG = """\
examples:
  edgefl rounds                     the current or last run
  edgefl rounds 7                   one round: every update's evidence and its part of the time
  edgefl rounds --record run.ndjson write what happened to a file; `edgefl console --replay run.ndjson` shows it
  edgefl rounds --record 3.ndjson --run 3   an earlier run, as long as the journal has it
  edgefl rounds --json | jq '.rounds[] | [.number, .accuracy, .seconds.train]'

seconds by stage: send (model out), start (a device picks it up), train, upload, score, aggregate, evaluate
exit codes: 0 done · 2 no such round, or nothing to record · 14 not provisioned · 33 the authority's key does not open
            60 the coordinator does not answer · 61 the journal was tampered with
"""


class NoSuchRound(EdgeflError):
    """The run has no round of that number."""

    exit_code = ExitCode.USAGE


class NothingToRecord(EdgeflError):
    """A run was named, and no file to write it to."""

    exit_code = ExitCode.USAGE


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("round", nargs="?", type=int, help="one round (default: all of the current or last run)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the run's events to a file that can be replayed")
    parser.add_argument("--run", default="", metavar="ID", help="which run --record writes (default: the current or last one)")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Ask the monitor once."""
    if args.run and args.record is None:
        raise NothingToRecord("--run says which run to record, and --record is not there", hint="--record FILE")
    from edgefl.operations.watch import watching
    from edgefl.site import load

    async with watching(load(args.site)) as monitor:
        state = (await monitor.status()).state
        if args.record is not None:
            header = await monitor.record(args.record, args.run or (state.run.id if state.run else ""))
            what = f"[green]✔[/] events {header.first} to {header.last} in {args.record}, verified"
            said = {"file": str(args.record), **header.model_dump()}
            out.result(said, f"{what}\n  next: edgefl console --replay {args.record}")
            return ExitCode.OK
    whole = state.as_dict()
    if args.round is None:
        out.result({name: whole[name] for name in ("run", "runs", "rounds")}, overview(state))
        return ExitCode.OK
    for row, mapping in zip(state.rounds, whole["rounds"], strict=True):
        if row.number == args.round:
            out.result(mapping, detail(row))
            return ExitCode.OK
    last = state.rounds[-1].number if state.rounds else 0
    raise NoSuchRound(f"there is no round {args.round}; the last one is {last}", hint="edgefl rounds")


def overview(state: FederationState) -> RenderableType:
    """The run's curve, its rounds, and where its time went."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import number, seconds, size, sparkline, times
    from edgefl.monitor.round import STAGES

    if state.run is None:
        return Text("no run yet\n  next: edgefl run")
    head = Text.assemble(
        (f"run {state.run.id}", "bold"),
        f" {state.run.status} · {state.run.task} · {state.run.rule}\n",
        "accuracy ",
        (sparkline([row.accuracy for row in state.rounds if row.accuracy is not None], 60), "green"),
        "\nloss     ",
        (sparkline([row.loss for row in state.rounds if row.loss is not None], 60), "cyan"),
    )
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("ROUND", "ACC", "LOSS", "UPDATES", "FLAGGED", "SECONDS", *map(str.upper, STAGES), "UP", "DOWN", "RATIO"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in state.rounds:
        table.add_row(
            str(row.number),
            number(row.accuracy, 3),
            number(row.loss, 3),
            _counts(row),
            Text(" ".join(row.flagged) or row.secure or "—", "red" if row.flagged else "dim"),
            seconds(row.wall_s),
            *(number(row.seconds.get(stage), 1) for stage in STAGES),
            size(row.bytes_up),
            size(row.bytes_down),
            times(row.ratio.get("up")),
            style="" if row.state == "finished" else "dim",
        )
    return Group(head, table, _shares(state))


def _counts(row: RoundRow) -> str:
    if row.state == "running":
        return f"{sum(update.train_s is not None for update in row.updates.values())}/{len(row.devices)}…"
    lost = len(row.dropped) + len(row.rejected)
    parts = [
        f"{len(row.participants)}/{len(row.devices)}",
        f"-{lost}" if lost else "",
        "skipped" if row.state == "skipped" else "",
    ]
    return " ".join(part for part in parts if part)


def _shares(state: FederationState) -> RenderableType:
    """Where the whole run's time went, as one bar by stage."""
    from rich.text import Text

    from edgefl.monitor.round import STAGES

    spent = {stage: sum(row.seconds.get(stage, 0.0) for row in state.rounds) for stage in STAGES}
    total = sum(spent.values())
    if total <= 0:
        return Text("")
    colours = ("blue", "magenta", "green", "cyan", "yellow", "red", "white")
    bar, legend = Text(), Text()
    for (stage, seconds_), colour in zip(spent.items(), colours, strict=True):
        bar.append("━" * round(60 * seconds_ / total), colour)
        if seconds_ > 0:
            legend.append(f"{stage} ", colour).append(f"{100 * seconds_ / total:.0f}%  ")
    return Text.assemble("\n", bar, "\n", legend)


def detail(row: RoundRow) -> RenderableType:
    """One round: what each device sent, how it was judged, where its time went."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import count, number, seconds, size
    from edgefl.monitor.round import STAGES

    stages = "  ".join(f"{stage} {row.seconds[stage]:.1f}s" for stage in STAGES if stage in row.seconds)
    asked = f"\n{len(row.devices)} devices asked: {row.selection}" if row.why else ""
    head = Text.assemble((f"round {row.number}", "bold"), f" {row.state} {row.reason}  {seconds(row.wall_s)}  {stages}{asked}")
    table = Table(box=None, header_style="dim", pad_edge=False)
    judged = ("DEVICE", "VERDICT", "SCORE", "LIMIT", "WEIGHT", "NORM", "COSINE")
    columns = (*judged, "SAMPLES", "LOSS", "START", "TRAIN", "MOVED", "UP", "WHY", *(("ASKED BECAUSE",) if row.why else ()))
    for column in columns:
        table.add_column(column, justify="left" if column in {"DEVICE", "VERDICT", "WHY"} else "right", no_wrap=column != "WHY")
    for name in dict.fromkeys([*row.devices, *row.updates]):
        update = row.updates.get(name)
        if update is None:
            table.add_row(name, Text("—" if row.state != "running" else "training", "dim"))
            continue
        verdict = "invalid" if update.rejected else "missing" if update.dropped else update.verdict or row.secure or "received"
        table.add_row(
            name,
            Text(("⚑ " if update.flagged else "") + verdict, "red" if update.flagged or verdict in {"invalid", "reject"} else ""),
            *(number(value) for value in (update.score, update.threshold, update.weight, update.norm, update.cosine)),
            count(update.samples),
            number(update.loss),
            *(seconds(value) for value in (update.start_s, update.train_s, update.transfer_s)),
            size(update.bytes_up),
            Text(printable(update.rejected or update.dropped or update.reason)),
            *((Text(row.why.get(name, ""), "dim"),) if row.why else ()),
        )
    return Group(head, table, *_sums(row))


def _sums(row: RoundRow) -> list[RenderableType]:
    """What the coordinator saw of a masked round."""
    from rich.table import Table
    from rich.text import Text

    from edgefl.console.figures import number

    if not row.secure:
        return []
    said = f"\n{row.secure}: the coordinator sees sums alone; a single update has no score and raises no flag"
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("SUM OF", "CAME", "NEEDED", "VERDICT", "SCORE", "LIMIT", "WEIGHT", "WHY"):
        table.add_column(column, justify="left" if column in {"SUM OF", "VERDICT", "WHY"} else "right")
    for made in row.sums:
        table.add_row(
            " ".join(made.members),
            f"{len(made.survivors)}/{len(made.members)}",
            str(made.needed or "—"),
            Text(made.verdict or ("lost" if made.lost else "unmasked"), "red" if made.lost or made.verdict == "reject" else ""),
            *(number(value) for value in (made.score, made.threshold, made.weight)),
            Text(printable(made.lost or made.reason)),
        )
    return [Text(said, "dim"), table]
