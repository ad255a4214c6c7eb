"""The box of control groups that each host lives in: what limits it, what freezes and kills it as a whole.

A lab's groups are `edgefl/<lab>/<host>/{keeper,box}` in every hierarchy of the machine: limits stand on `<host>`, the parent of
the box, where the host's own systemd cannot reach; nspawn makes its groups under `box`; `keeper` holds what starts nspawn.
Killing and freezing go through the v2 hierarchy, which the kernel applies to the whole tree at once. CPU and memory limits go
where the machine keeps those controllers: v1 (a "hybrid" machine) or v2.
On a machine whose PID 1 is systemd and whose hierarchy is pure v2, the groups lie under a delegated unit (see `capsule`). That
way follows the kernel's and systemd's documents (cgroup-v2.rst, systemd's CGROUP_DELEGATION) but has not run on such a machine
yet; the hybrid one has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgefl.lab.command import wait_until
from edgefl.lab.failure import LabFailed

CPU_PERIOD_US = 100_000
_DYING_S = 60
_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where the machine has its control groups: the v2 mount, and v1 mounts by their controllers (none on a pure v2 machine)."""

    unified: Path
    legacy: tuple[tuple[frozenset[str], Path], ...] = ()

    @classmethod
    def of_machine(cls) -> Hierarchies | None:
        """The machine's hierarchies; None when it has no cgroup v2 mount."""
        return cls.parse(Path("/proc/self/mountinfo").read_text())

    @classmethod
    def parse(cls, mountinfo: str) -> Hierarchies | None:
        """Read them from the text of /proc/self/mountinfo (proc(5)): the first mount of each hierarchy under /sys/fs/cgroup."""
        unified: Path | None = None
        legacy: dict[frozenset[str], Path] = {}
        for line in mountinfo.splitlines():
            before, _, after = line.partition(" - ")
            mount, kind, options = before.split()[4], after.split()[0], after.split()[-1]
            if not mount.startswith("/sys/fs/cgroup"):
                continue
            if kind == "cgroup2" and unified is None:
                unified = Path(mount)
            elif kind == "cgroup":
                controllers = frozenset(options.split(",")) - {"rw", "ro", "xattr", "clone_children"}
                legacy.setdefault(controllers, Path(mount))
        return None if unified is None else cls(unified, tuple(legacy.items()))

    @property
    def roots(self) -> tuple[Path, ...]:
        """Every hierarchy's mount point, the v2 one first."""
        return (self.unified, *(path for _, path in self.legacy))

    def of(self, controller: str) -> Path | None:
        """The v1 mount of a controller; None when it belongs to the v2 hierarchy."""
        return next((path for controllers, path in self.legacy if controller in controllers), None)


@dataclass(frozen=True, slots=True)
class Group:
    """One group, the same path in every hierarchy; `base` is the part of it that is ours to make and to remove."""

    hierarchies: Hierarchies
    path: str
    base: str

    def child(self, name: str) -> Group:
        """The group of that name within this one."""
        return Group(self.hierarchies, f"{self.path}/{name}", self.base)

    def make(self) -> None:
        """Have the group in every hierarchy, with its controllers handed down to it; does nothing when it is there."""
        for root in self.hierarchies.roots:
            for level in self._levels():
                (root / level).mkdir(exist_ok=True)
                if root == self.hierarchies.of("cpuset"):
                    _inherit_cpuset(root / level)
        unified = self.hierarchies.unified
        for level in self._levels()[:-1]:
            _hand_down(unified / level)

    def prepare_root(self) -> None:
        """Hand the v2 controllers down from the mount's root, where no systemd manages it."""
        _hand_down(self.hierarchies.unified)

    def limit(self, *, cpu: float, memory_mb: int) -> None:
        """Let everything in the group use at most `cpu` cores and `memory_mb` MiB, from now on.

        Raises LabFailed when the kernel refuses, e.g. because more memory than that is in use.
        """
        quota_us, memory = int(cpu * CPU_PERIOD_US), memory_mb * 1024 * 1024
        if legacy := self.hierarchies.of("cpu"):
            self._write(legacy, "cpu.cfs_period_us", str(CPU_PERIOD_US))
            self._write(legacy, "cpu.cfs_quota_us", str(quota_us))
        else:
            self._write(self.hierarchies.unified, "cpu.max", f"{quota_us} {CPU_PERIOD_US}")
        if legacy := self.hierarchies.of("memory"):
            self._write(legacy, "memory.limit_in_bytes", str(memory))
        else:
            self._write(self.hierarchies.unified, "memory.max", str(memory))
            if (self.hierarchies.unified / self.path / "memory.swap.max").exists():
                self._write(self.hierarchies.unified, "memory.swap.max", "0")

    def entrances(self) -> list[str]:
        """The files to which a process writes `0` to join the group in every hierarchy."""
        return [str(root / self.path / "cgroup.procs") for root in self.hierarchies.roots]

    def processes(self) -> list[int]:
        """Every process in the group and below it, as the machine numbers them."""
        found: list[int] = []
        for directory, _, files in os.walk(self.hierarchies.unified / self.path):
            if "cgroup.procs" in files:
                with suppress(OSError):  # the group was removed while we walked
                    found += map(int, (Path(directory) / "cgroup.procs").read_text().split())
        return found

    @property
    def is_populated(self) -> bool:
        """Whether any process lives in the group or below it."""
        try:
            return "populated 1" in (self.hierarchies.unified / self.path / "cgroup.events").read_text()
        except OSError:
            return False

    def freeze(self, frozen: bool) -> None:
        """Stop every process in its tracks, or let all go on; returns when it is so."""
        self._write(self.hierarchies.unified, "cgroup.freeze", "1" if frozen else "0")
        events = self.hierarchies.unified / self.path / "cgroup.events"
        wait_until(lambda: f"frozen {int(frozen)}" in events.read_text(), f"freezing {self.path}", deadline_s=10)

    def kill(self) -> None:
        """SIGKILL everything in the group at once; returns when nothing of it is left.

        A process that dies still needs CPU, and one that waits for the disk dies only then: limits are lifted, and a busy
        machine is waited for.
        """
        if self.is_populated:
            self._write(self.hierarchies.unified, "cgroup.kill", "1")
            self._lift_cpu_limits()
            wait_until(lambda: not self.is_populated, f"the end of every process in {self.path}", deadline_s=_DYING_S)

    def remove(self) -> None:
        """Remove the (empty) group and all below it from every hierarchy; returns when it is gone."""
        end = time.monotonic() + 10
        for root in self.hierarchies.roots:
            top = root / self.path
            while top.exists():
                for directory, _, _ in os.walk(top, topdown=False):
                    with suppress(OSError):  # the kernel may still be letting go of the last process
                        Path(directory).rmdir()
                if top.exists():
                    if time.monotonic() > end:
                        raise LabFailed(f"the control group {top} cannot be removed: something in it still runs")
                    time.sleep(0.01)

    def remove_parents(self) -> None:
        """Remove the groups above this one as far as they are ours and empty."""
        for level in reversed(self._levels()[:-1]):
            for root in self.hierarchies.roots:
                with suppress(OSError):  # another lab's group is in it, or it is not there
                    (root / level).rmdir()

    def _lift_cpu_limits(self) -> None:
        legacy = self.hierarchies.of("cpu")
        root, file, unlimited = (legacy, "cpu.cfs_quota_us", "-1") if legacy else (self.hierarchies.unified, "cpu.max", "max")
        for directory, _, files in os.walk(root / self.path):
            if file in files:
                with suppress(OSError):  # the group was removed while we walked
                    (Path(directory) / file).write_text(unlimited)

    def _levels(self) -> list[str]:
        """The paths from `base` down to this group."""
        parts = self.path.removeprefix(self.base).strip("/").split("/")
        return [self.base, *("/".join((self.base, *parts[: n + 1])) for n in range(len(parts)) if parts[n])]

    def _write(self, root: Path, file: str, value: str) -> None:
        path = root / self.path / file
        try:
            path.write_text(value)
        except OSError as refused:
            raise LabFailed(f"the kernel refuses {value} in {path}: {refused.strerror}") from refused


def processes_named(pids: list[int], pid_inside: int) -> Iterator[int]:
    """Those of `pids` that are number `pid_inside` in their innermost process namespace (proc(5), NSpid)."""
    for pid in pids:
        with suppress(OSError, StopIteration):
            line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("NSpid:"))
            numbers = line.split()[1:]
            if len(numbers) > 1 and int(numbers[-1]) == pid_inside:
                yield pid


def _inherit_cpuset(group: Path) -> None:
    """A v1 cpuset starts empty and takes no process so: give it its parent's CPUs, and its children the same by themselves."""
    if not (group / "cpuset.cpus").read_text().strip():
        for file in ("cpuset.mems", "cpuset.cpus"):
            (group / file).write_text((group.parent / file).read_text())
    (group / "cgroup.clone_children").write_text("1")


def _hand_down(group: Path) -> None:
    """Let children of a v2 group have the controllers that the group has."""
    available = (group / "cgroup.controllers").read_text().split()
    enabled = (group / "cgroup.subtree_control").read_text().split()
    wanted = [f"+{name}" for name in _CONTROLLERS if name in available and name not in enabled]
    if wanted:
        try:
            (group / "cgroup.subtree_control").write_text(" ".join(wanted))
        except OSError as refused:
            raise LabFailed(
                f"the kernel does not hand the controllers {' '.join(wanted)} down from {group}: {refused.strerror}",
                hint="is this a container? processes in the root of its cgroup namespace must move out of it first",
            ) from refused
