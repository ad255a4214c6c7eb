"""`edgefl lab`: real hosts on this machine, with or without a site."""

from __future__ import annotations

import argparse
import asyncio
import os
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from edgefl.cli.output import Output
    from edgefl.lab.hosts import Lab
    from edgefl.lab.spec import HostSpec, HostState
    from edgefl.progress import Progress

_EPILOG = """\
examples:
  edgefl lab up 3                             three Debian hosts: systemd, sshd, an address each
  edgefl lab up 3 --cpu 0.5 --memory 512 --uplink 10 --latency 40
  edgefl lab list
  edgefl lab ssh host-01                      a shell on it; host key checking stays on
  edgefl lab exec host-01 systemctl status    a command on it, apart from its network
  edgefl lab kill host-01                     its power fails; `edgefl lab start host-01` boots it from its disk
  edgefl lab partition host-01 host-02        they no longer hear each other; `heal` undoes it
  edgefl lab down                             nothing is left: no process, mount, control group or file

The lab of a site is the one in its directory: run these there, or name it with --dir.

exit codes: 0 done · 13 needs root · 23 a host could not be made, or has another state · `exec` and `ssh`: the command's own
"""
_FAULTS = {
    "start": "boot it from its disk, where it does not run",
    "kill": "its power fails: everything in it ends at once, its disk stays",
    "reboot": "restart it in good order",
    "freeze": "its processes stop in their tracks; the kernel still answers pings",
    "thaw": "a frozen host goes on",
    "cut": "pull its network cable",
    "join": "plug its network cable in again",
    "delete": "end it and erase its disk",
}
_PAIRS = {"partition": "two hosts hear nothing of each other", "heal": "two hosts hear each other again"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the lab's own commands, arguments and examples."""
    parser.epilog = _EPILOG
    parser.add_argument("--dir", type=Path, default=Path(".edgefl/lab"), help="where the lab's state lies (default: .edgefl/lab)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    up = actions.add_parser("up", help="have N hosts running")
    up.add_argument("count", type=_count, metavar="N", help="how many hosts: host-01 and so on")
    up.add_argument("--cpu", type=float, default=1.0, metavar="CORES", help="cores of each (default: 1)")
    up.add_argument("--memory", type=int, default=1024, metavar="MIB", help="memory of each (default: 1024)")
    up.add_argument("--uplink", type=float, metavar="MBIT", help="rate from each host (default: unlimited)")
    up.add_argument("--downlink", type=float, metavar="MBIT", help="rate to each host (default: unlimited)")
    up.add_argument("--latency", type=float, default=0.0, metavar="MS", help="delay in each direction (default: none)")
    up.add_argument("--network", type=IPv4Interface, metavar="CIDR", help="the operator's address and network (10.77.0.1/24)")

    actions.add_parser("list", help="every host, its limits and whether it runs")
    for name, text in (("ssh", "a shell, or a command, over SSH"), ("exec", "a command, apart from the network")):
        reach = actions.add_parser(name, help=text)
        reach.add_argument("host")
        reach.add_argument("command_line", nargs=argparse.REMAINDER, metavar="COMMAND")
    for name, text in _FAULTS.items():
        actions.add_parser(name, help=text).add_argument("host")
    for name, text in _PAIRS.items():
        pair = actions.add_parser(name, help=text)
        pair.add_argument("host")
        pair.add_argument("other")
    actions.add_parser("down", help="remove every host and all that the lab left on this machine")
    for action in actions.choices.values():  # --json is as good after the action as before it
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Do one of the lab's commands."""
    from edgefl.lab.hosts import Lab
    from edgefl.lab.machine import demand

    demand()
    lab = Lab(args.dir, getattr(args, "network", None))
    if args.action == "up":
        return await _up(lab, args, out)
    if args.action == "ssh":
        return _ssh(lab, args.host, args.command_line)
    if args.action == "exec":
        return await _exec(lab, args.host, args.command_line, out)
    if args.action == "list":
        hosts = lab.hosts()
        out.result({"hosts": [host.as_dict() for host in hosts]}, _table(hosts) if hosts else "no hosts; next: edgefl lab up 3")
        return ExitCode.OK
    if args.action == "down":
        await asyncio.to_thread(lab.down)
        out.result({"hosts": []}, "[green]✔[/] nothing of the lab is left")
        return ExitCode.OK
    names = [args.host, args.other] if args.action in _PAIRS else [args.host]
    await asyncio.to_thread(getattr(lab, args.action), *names)
    if (args.dir.absolute().parent.parent / "site.yaml").exists():  # a site's own lab, where its audit log is
        from edgefl.operations.deeds import note

        note(args.dir.absolute().parent, f"lab {args.action}", " and ".join(names))
    done = (_PAIRS | _FAULTS)[args.action]
    out.result({"action": args.action, "hosts": names}, f"[green]✔[/] {' and '.join(names)}: {done}")
    return ExitCode.OK


async def _up(lab: Lab, args: argparse.Namespace, out: Output) -> ExitCode:
    """Boot the hosts side by side; what Ctrl-C leaves of them is taken up by the next `up`."""
    from edgefl.lab.command import interrupt
    from edgefl.lab.image import image
    from edgefl.progress import Finished, Started

    loop = asyncio.get_running_loop()

    def report(event: Progress) -> None:
        loop.call_soon_threadsafe(out.progress, event)

    async def boot(spec: HostSpec) -> HostState:
        host = await asyncio.to_thread(lab.create, spec)
        out.progress(Finished("lab", spec.name, f"runs at {spec.address}"))
        return host

    try:
        await asyncio.to_thread(image, report=report)
        out.progress(Started("lab", "", f"{args.count} hosts", total=args.count))
        hosts = await asyncio.gather(*(boot(spec) for spec in _specs(lab, args)))
    except asyncio.CancelledError:
        interrupt()
        raise
    out.progress(Finished("lab", "", "every host answers"))
    out.result({"hosts": [host.as_dict() for host in hosts]}, "  next: edgefl lab ssh host-01")
    return ExitCode.OK


def _specs(lab: Lab, args: argparse.Namespace) -> list[HostSpec]:
    """Hosts host-01 and so on, from the network's eleventh address up."""
    from edgefl.lab.spec import HostSpec

    first = lab.network.network.network_address + 11
    return [
        HostSpec(
            name=f"host-{number + 1:02}",
            address=str(first + number),
            cpu=args.cpu,
            memory_mb=args.memory,
            uplink_mbit=args.uplink,
            downlink_mbit=args.downlink,
            latency_ms=args.latency,
        )
        for number in range(args.count)
    ]


def _ssh(lab: Lab, name: str, command: list[str]) -> ExitCode:
    """Become ssh: the terminal and the exit status are the host's from here on."""
    from edgefl.lab.ssh import ssh_argv

    argv = ssh_argv(lab, lab.running(name), *command)
    os.execvp(argv[0], argv)  # noqa: S606 - a shell of the user's own


async def _exec(lab: Lab, name: str, command: list[str], out: Output) -> ExitCode:
    done = await asyncio.to_thread(lab.execute, name, command or ["uptime"])
    from rich.text import Text

    shown = Text((done.stdout + done.stderr).rstrip("\n"))
    out.result({"host": name, "exit": done.returncode, "stdout": done.stdout, "stderr": done.stderr}, shown)
    return ExitCode.OK if done.returncode == 0 else ExitCode.FAILED


def _table(hosts: list[HostState]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for title in ("host", "", "address", "role", "cores", "MiB", "up", "down", "latency"):
        table.add_column(title, justify="right" if title in {"cores", "MiB", "up", "down", "latency"} else "left")
    for host in hosts:
        spec, mark = host.spec, "[green]● runs[/]" if host.running else "[red]○ off[/]"
        rates = [f"{rate:g} Mbit/s" if rate else "–" for rate in (spec.uplink_mbit, spec.downlink_mbit)]
        latency = f"{spec.latency_ms:g} ms" if spec.latency_ms else "–"
        table.add_row(spec.name, mark, spec.address, spec.role, f"{spec.cpu:g}", str(spec.memory_mb), *rates, latency)
    return table


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 200:
        raise argparse.ArgumentTypeError("1 to 200 hosts")
    return count
