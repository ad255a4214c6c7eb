"""The SuperExec of a host: takes tasks from its SuperLink or SuperNode and runs them in warm processes.

`python -m edgefl.federation.flower.superexec --role device|server`. It executes one app alone, the one whose hash stands in
this host's host.json: a coordinator that is taken over can ask devices for rounds, but cannot ship them code.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edgefl import voice
from edgefl.errors import EdgeflError
from edgefl.federation.flower import contract, patches, say
from edgefl.federation.flower.notify import keep_watchdog, notify
from edgefl.federation.flower.zygote import WarmExecutor, Warmth, ZygoteDied
from edgefl.federation.hostconfig import APP_VARIABLE, HostConfig, Places
from edgefl.layout import SUPERLINK_PORT, SUPERNODE_PORT

PRELOAD_VARIABLE = "EDGEFL_PRELOAD"
"""Modules, separated by commas, that the zygote imports besides the app and the task."""
GRACE_S = 60
"""How much longer than a round's deadline a device's task may run before it is killed."""
SERVER_POLL_S = 0.5
"""How often the coordinator's SuperExec asks for a run to start."""
RETRY_S = 3.0
"""Longest pause between attempts to reach the SuperNode or SuperLink after it was away."""

log = logging.getLogger("edgefl")


class AppRefused(Exception):
    """The app that arrived is not the one that this host executes; the message becomes the error reply."""

    def __init__(self, arrived: str, expected: Sequence[str]) -> None:
        apps = " and ".join(f"{app[:16]}…" for app in expected)
        said = f"this host executes only the app {apps}" if expected else "its host.json names no app to execute"
        super().__init__(f"refused to execute the app {arrived[:16]}…: {said}")
        log.error("%s", self)


def limit_threads(cores: int) -> None:
    """Keep every numeric library to the host's cores; before any of them is imported.

    Threads that wait must sleep: spinning, OpenMP's default, cost 3.5 times the CPU of a small model's round, and OpenBLAS'
    spin for 56 ms after each product that two of them shared.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(cores))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles, the least


def available_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may use: its affinity, or its control groups' CPU quota where that is less; at least 1."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        place = cgroups / own.read_text().rsplit("::", 1)[-1].strip().lstrip("/")
    except OSError:
        return int(cores)
    for group in (place, *place.parents):
        if not group.is_relative_to(cgroups):
            break
        try:
            quota, period = (group / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return max(1, math.ceil(cores))


def avoid_generated_code() -> None:
    """Where the unit forbids memory that is written and executed (MemoryDenyWriteExecute), keep torch from generating code.

    oneDNN compiles its convolutions at run time and would fail with "could not create a primitive"; torch's own take
    about 1.8 times the CPU.
    """
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        import torch

        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]  # torch annotates it not
        log.info("this unit forbids generated code: convolutions run without oneDNN")


def modules(role: str, host: HostConfig, wanted: str) -> tuple[str, ...]:
    """What the zygote imports: numeric libraries, the role's app, the task where it is a module, and what is asked for."""
    app = "edgefl.federation.client" if role == "device" else "edgefl.federation.server"
    # The first optimiser of a process imports torch._dynamo, which costs more than many a round.
    names = ["torch", "torch._dynamo", app]
    if host.privacy.mode == "dp-sgd" and role == "device":
        names += ["opacus", "edgefl.federation.privacy.dpsgd"]
    if host.secure.mode == "homomorphic":
        names.append("tenseal")
    if not host.task.module.endswith(".py"):
        names.append(host.task.module)
    names += [name.strip() for name in wanted.split(",") if name.strip()]
    return tuple(dict.fromkeys(name for name in names if _is_there(name)))


def _is_there(module: str) -> bool:
    """Whether the module can be found; a missing one is the app's to complain about, with a better message."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def note_app(directory: Path) -> None:
    """Tell the app where it was unpacked: the user's task lies there."""
    os.environ[APP_VARIABLE] = str(directory)


def run(role: str, places: Places, *, runtime: str, concurrency: int) -> None:
    """Become the SuperExec; returns only when it is asked to end."""
    host = HostConfig.load(places.host)
    if not places.secret.exists():
        raise EdgeflError(f"{places.secret} is missing: the SuperExec could not prove itself", hint="edgefl up")
    limit_threads(available_cores())
    os.environ.update(places.as_environment())
    os.environ["FLWR_HOME"] = str(places.state / ("app" if role == "device" else "server"))
    Path(os.environ["FLWR_HOME"]).mkdir(parents=True, exist_ok=True)
    # The SuperNode keeps a device's question until there is a task (patches.supernode_task_wait): no pause is needed.
    os.environ["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.01" if role == "device" else str(SERVER_POLL_S)

    def guard() -> None:
        avoid_generated_code()
        # Read at each task: a new app is taken without a restart, a damaged host.json refuses everything.
        patches.execute_only(role, lambda: HostConfig.load(places.host).apps, AppRefused, note_app)

    limit_s = int(host.run.deadline_s) + GRACE_S if role == "device" else 0
    patches.import_superexec()
    warmth = Warmth(role, modules(role, host, os.environ.get(PRELOAD_VARIABLE, "")), guard, limit_s)
    executor = WarmExecutor(warmth, concurrency=concurrency)
    patches.superexec_executor(executor)
    patches.retry_delay(RETRY_S)
    notify(READY=1, STATUS=f"warm: {', '.join(warmth.preload)}")
    keep_watchdog(executor.is_alive)
    patches.run_superexec(runtime, places.secret, None if role == "device" else places.authority)


def main(argv: list[str] | None = None) -> int:
    """The service's entry point."""
    parser = argparse.ArgumentParser(prog="edgefl-superexec", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--role", choices=("device", "server"), required=True)
    parser.add_argument("--config", type=Path, default=Places().config, help="where host.json and the secret lie")
    parser.add_argument("--state", type=Path, default=Places().state, help="where the ledger, the models and the journal lie")
    parser.add_argument("--port", type=int, help="port of the SuperLink or the SuperNode on the loopback")
    parser.add_argument("--concurrency", type=int, default=None, help="most tasks at once (default: device 1, server 4)")
    options = parser.parse_args(argv)
    port = options.port or (SUPERNODE_PORT if options.role == "device" else SUPERLINK_PORT)
    runtime = f"127.0.0.1:{port}" if options.role == "device" else f"localhost:{port}"
    voice.to_stderr()
    patches.quiet()
    try:
        contract.require("superexec", "clientapp" if options.role == "device" else "serverapp")
        say.with_flower()
        run(
            options.role,
            Places(options.config, options.state),
            runtime=runtime,
            concurrency=options.concurrency or (1 if options.role == "device" else 4),
        )
    except ZygoteDied as died:
        log.error("%s", died)
        return 1
    except EdgeflError as error:
        for line in error.lines():
            log.error("%s", line)
        return int(error.exit_code)
    except SystemExit as end:  # Flower's answer to SIGTERM; what the interpreter would tidy up now, the kernel does at once
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a TextIOWrapper when run as a program
    status = main()
    sys.stderr.flush()
    os._exit(status)
