"""The warm executor: one process that has imported everything forks a fresh process for each task.

A ClientApp of Flower's is a new interpreter per message; on a small device the imports (torch, Opacus) cost many times
what a round's training does. Here a zygote imports once and forks: the task still has a process of its own, with its own
memory and its own end. The zygote itself computes nothing and talks to nobody, so that every fork starts clean.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from edgefl.federation.flower import patches

LAUNCHED_VARIABLE = "EDGEFL_LAUNCHED"
"""When a task was launched: seconds of CLOCK_MONOTONIC, which forks share."""

_PR_SET_PDEATHSIG = 1

log = logging.getLogger("edgefl")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Warmth:
    """What a zygote prepares for its tasks.

    preload: modules to import before the first task. guard: called in the zygote after the imports.
    limit_s: a task that runs longer is killed by SIGALRM; 0 means no limit.
    """

    role: str
    preload: tuple[str, ...] = ()
    guard: Callable[[], None] = field(default=lambda: None)
    limit_s: int = 0


class ZygoteDied(Exception):
    """The zygote is gone: the SuperExec must end, so that its supervisor starts both anew."""


class WarmExecutor:
    """Flower's `Executor` protocol over a zygote; at most `concurrency` tasks run at once."""

    def __init__(self, warmth: Warmth, *, concurrency: int) -> None:
        """Fork the zygote; call it before this process has threads."""
        self._task_type = patches.task_type(warmth.role)
        self._concurrency = concurrency
        self._running: set[int] = set()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._channel.close()
            _zygote(theirs, warmth)
        theirs.close()
        self.wait_until_warm()

    def wait_until_warm(self) -> None:
        """Block until the zygote has imported everything; ZygoteDied when it could not."""
        self._receive()

    def get_eligible_capacity(self, supported_task_types: set[Any], **_: object) -> tuple[set[Any], set[str]]:
        """The one type of task that this host executes, once fewer than `concurrency` run."""
        self._collect()
        while len(self._running) >= self._concurrency:
            select.select([self._channel], [], [])
            self._collect()
        return supported_task_types & {self._task_type}, set()

    def wait_for_capacity(self, task_type: Any = None, **_: object) -> None:
        """Block until one more task may run."""
        self.get_eligible_capacity({task_type})

    def launch(self, spec: Any) -> Any:
        """Fork a process for the task; its token travels over a socket, not in an argument list."""
        if spec.task_type != self._task_type:
            raise ZygoteDied(f"a task of type {spec.task_type} came to a host that executes {self._task_type} alone")
        task = {"runtime": spec.runtime_api_address, "token": spec.token, "authority": spec.root_certificates_path}
        try:
            self._channel.send(json.dumps({**task, "launched": time.monotonic()}).encode())
        except OSError as error:
            raise ZygoteDied("the zygote does not take tasks any more") from error
        started = self._receive()
        while "started" not in started:
            self._ended(started)
            started = self._receive()
        self._running.add(started["started"])
        return patches.accepted()

    def is_alive(self) -> bool:
        """Whether the zygote still runs."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def reconcile(self) -> None:
        """Between polls: note the tasks that ended."""
        self._collect()

    def close(self) -> None:
        """End the zygote; tasks that still run end with it."""
        with contextlib.suppress(OSError):
            self._channel.close()

    def _collect(self) -> None:
        while select.select([self._channel], [], [], 0)[0]:
            self._ended(self._receive())

    def _ended(self, report: dict[str, Any]) -> None:
        self._running.discard(report["ended"])
        if report["signal"] or report["status"]:
            how = f"was ended by signal {report['signal']}" if report["signal"] else f"ended with {report['status']}"
            log.warning("task process %s %s", report["ended"], how)

    def _receive(self) -> dict[str, Any]:
        try:
            message = self._channel.recv(65536)
        except ConnectionError:
            message = b""
        if not message:
            raise ZygoteDied("the zygote, from which tasks are forked, ended; its output says why")
        report: dict[str, Any] = json.loads(message)
        return report


def _zygote(channel: socket.socket, warmth: Warmth) -> NoReturn:
    """Import, report, then fork on request until the SuperExec is gone."""
    die_with_parent()
    try:
        patches.import_app(warmth.role)
        for module in warmth.preload:
            importlib.import_module(module)
        warmth.guard()
    except BaseException:  # whatever keeps it from being warm must be seen, and must end it
        log.exception("the zygote cannot be made warm")
        os._exit(1)
    gc.collect()
    gc.freeze()
    # A task's end wakes the loop through this pipe; the handler itself does nothing.
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    channel.send(json.dumps({"warm": True}).encode())
    while True:
        sources: list[Any] = [channel, wake]
        readable, _, _ = select.select(sources, [], [])
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            _report_ended(channel)
        if channel in readable:
            message = channel.recv(65536)
            if not message:
                os._exit(0)
            request = json.loads(message)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                channel.close()
                _task(warmth, request)
            channel.send(json.dumps({"started": pid}).encode())


def _report_ended(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended = {
            "ended": pid,
            "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        }
        channel.send(json.dumps(ended).encode())


def _task(warmth: Warmth, request: dict[str, Any]) -> NoReturn:
    """Be one task; the process ends with it."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(warmth.limit_s)
    os.environ[LAUNCHED_VARIABLE] = repr(request["launched"])
    status = 0
    try:
        authority = Path(request["authority"]) if request["authority"] else None
        patches.run_app(warmth.role, request["runtime"], request["token"], authority)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # the last frame of a process: it must say why it ends
        log.exception("the task failed")
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
