"""The capsule: the namespaces (mount, pid, net) in which a whole lab lives, held by one small process.

When that process dies, the kernel ends every host, mount and link of the lab with it. All that is left then are empty control
groups and the files in the lab's directory, from which the hosts can be booted again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from importlib import resources
from pathlib import Path

from edgefl.lab.cgroups import Group, Hierarchies
from edgefl.lab.command import detach, run, wait_until
from edgefl.lab.failure import LabFailed
from edgefl.lab.process import Process
from edgefl.lab.reach import CAPSULE_FILE

_JOIN = 'for file in $1; do echo 0 >"$file"; done; shift; exec "$@"'
"""Shell: join the control groups whose cgroup.procs are listed in $1, then become the rest of the arguments."""


class Capsule:
    """The namespaces of the lab in `root`; nothing happens before `start`. Callers hold the lab's lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file = root / CAPSULE_FILE
        self._log = root / "capsule.log"
        self.id = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]

    @property
    def group(self) -> Group:
        """The lab's control group."""
        hierarchies = Hierarchies.of_machine()
        if hierarchies is None:
            raise LabFailed("this machine has no cgroup v2 hierarchy", hint="edgefl doctor")
        if _systemd_manages(hierarchies):
            unit = f"system.slice/{self._unit}"
            return Group(hierarchies, unit, base=unit)
        return Group(hierarchies, f"edgefl/{self.id}", base="edgefl")

    @property
    def process(self) -> Process | None:
        """The process that holds the namespaces; None when the lab does not run (never started, crashed, machine rebooted)."""
        return Process.load(self._file)

    @property
    def is_alive(self) -> bool:
        """Whether the lab's namespaces exist."""
        return self.process is not None

    def start(self, furnish: str) -> None:
        """Make the namespaces, detached from the caller; what a crash left of former ones is ended first.

        furnish: shell commands run within them before anyone may enter; the start fails when they do.
        """
        self.stop()
        ready = self.root / "capsule.ready"
        ready.unlink(missing_ok=True)
        group = self.group.child("capsule")
        namespaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--propagation", "private"]
        argv = [*namespaces, "sh", "-eu", "-c", script("capsule.sh"), "edgefl-lab", str(ready), furnish]
        if _systemd_manages(group.hierarchies):
            leaf = group.hierarchies.unified / group.path  # a delegated unit's own group must stay without processes
            properties = [f"--property={each}" for each in ("Delegate=yes", "TasksMax=infinity", "OOMPolicy=continue")]
            unit = ["systemd-run", "--quiet", "--collect", f"--unit={self._unit}", *properties, "--"]
            run([*unit, "sh", "-euc", 'mkdir "$0"; exec "$@"', str(leaf), *in_group(group, *argv)])
        else:
            if not group.hierarchies.legacy:
                group.prepare_root()
            group.make()
            detach(argv, log=self._log, first=in_group(group))
        wait_until(lambda: ready.exists() or not group.is_populated, "the lab's namespaces", deadline_s=10, every_s=0.005)
        process = Process.of(int(ready.read_text())) if ready.exists() else None
        if process is None:
            said = self._log.read_text(errors="replace").splitlines()[-3:] if self._log.exists() else []
            raise LabFailed("the lab's network cannot be made: " + " | ".join(said), hint=f"see {self._log}")
        ready.unlink()
        process.save(self._file)

    def stop(self) -> None:
        """End everything in the lab; returns when no process and no control group of it is left."""
        self._file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self.group.kill()
        self.group.remove()
        self.group.remove_parents()

    def enter(self, *argv: str) -> list[str]:
        """The command that runs `argv` within the lab's mounts, network and processes."""
        holder = self.process
        if holder is None:
            raise LabFailed(f"the lab in {self.root} is not running", hint="edgefl up")
        return ["nsenter", f"--target={holder.pid}", "--mount", "--net", "--pid", "--", *argv]

    def run(self, *argv: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        """Output of a command run within the lab."""
        return run(self.enter(*argv), stdin=stdin, timeout_s=timeout_s)

    def detach(self, group: Group, *argv: str, log: Path) -> None:
        """Start a process that lives in the lab until the lab or its group is ended; it outlives the caller."""
        group.make()
        detach(self.enter(*argv), log=log, first=in_group(group))

    @property
    def _unit(self) -> str:
        return f"edgefl-lab-{self.id}.service"


def in_group(group: Group, *argv: str) -> list[str]:
    """The command that joins a control group and becomes `argv`."""
    return ["sh", "-c", _JOIN, "join", " ".join(group.entrances()), *argv]


def script(name: str) -> str:
    """The text of one of the lab's shell scripts."""
    return resources.files("edgefl.lab").joinpath("scripts", name).read_text()


def _systemd_manages(hierarchies: Hierarchies) -> bool:
    """Whether a systemd owns the (pure v2) tree, so that a part of it must be asked for rather than taken."""
    return not hierarchies.legacy and Path("/run/systemd/system").is_dir()
