"""One lab host while it runs: its box of control groups, its place in the network, its PID 1."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface

from edgefl.lab import network
from edgefl.lab.capsule import Capsule, in_group, script
from edgefl.lab.cgroups import Group, processes_named
from edgefl.lab.command import complete, wait_until
from edgefl.lab.disk import Disk
from edgefl.lab.failure import LabFailed
from edgefl.lab.image import nspawn
from edgefl.lab.network import Port
from edgefl.lab.plug import plug
from edgefl.lab.reach import dial
from edgefl.lab.spec import HostSpec, HostState

BOOT_DEADLINE_S = 300.0
_REBOOT = signal.SIGRTMIN + 5
"""systemd(1): start reboot.target."""
_FIXED = ("name", "address", "data", "preloaded")
"""What cannot change about a host that exists: another one of it is another host."""
_NSPAWN = (
    *("--quiet", "--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--console=read-only"),
    *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
    *("--capability=CAP_NET_ADMIN", "--system-call-filter=bpf"),  # its own firewall; IPAddressDeny= fails silently without bpf
)
_ENVIRONMENT = ("HOME=/root", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


def port_of(spec: HostSpec, lab: IPv4Interface) -> Port:
    """Where a host is plugged in; LabFailed when its address is none for a host of that network."""
    try:
        return Port.of(spec.name, spec.address, lab)
    except ValueError as wrong:
        raise LabFailed(str(wrong), hint="choose another address, or another `infrastructure.network`") from wrong


class Host:
    """The host whose disk this is, in the lab of `capsule`. Callers exclude others from working on it."""

    def __init__(self, capsule: Capsule, lab: IPv4Interface, disk: Disk) -> None:
        self.name = disk.spec.name
        self.disk = disk
        self.port = port_of(disk.spec, lab)
        self._capsule = capsule
        self._group: Group = capsule.group.child("hosts").child(self.name)
        self._wire: Group = capsule.group.child("wires").child(self.name)

    @property
    def is_running(self) -> bool:
        """Whether any process of the host lives."""
        return self._capsule.is_alive and self._group.is_populated

    @property
    def state(self) -> HostState:
        """The host as others see it."""
        return HostState(self.disk.spec, self.disk.host_key, self.is_running)

    def boot(self) -> None:
        """Start the host, which does not run; returns when its SSH server answers. LabFailed when it does not come up."""
        box = self._group.child("box")
        box.make()
        self._group.limit(cpu=self.disk.spec.cpu, memory_mb=self.disk.spec.memory_mb)
        self._plug()
        self._capsule.run("sh", "-euc", self.disk.mount_script(), "mount", str(self.disk.directory), self.disk.lowers())
        self.disk.console.unlink(missing_ok=True)
        place = [f"--directory={self.disk.rootfs}", f"--machine={self.name}", f"--network-namespace-path=/run/netns/{self.name}"]
        argv = [*nspawn(self.disk.image), *_NSPAWN, *place, "/usr/local/sbin/edgefl-lab-init"]
        keeper = ["sh", "-c", script("keeper.sh"), f"keeper-{self.name}", " ".join(box.entrances()), *argv]
        self._capsule.detach(self._group.child("keeper"), *keeper, log=self.disk.console)
        self._await_ssh()

    def change(self, spec: HostSpec) -> None:
        """Bring the host to `spec`: now where it runs, at its next boot otherwise.

        Raises LabFailed for what cannot change while it exists, and when the kernel refuses a limit; it is as it was then.
        """
        if fixed := [field for field in _FIXED if getattr(self.disk.spec, field) != getattr(spec, field)]:
            what = ", ".join(fixed)
            raise LabFailed(f"{self.name}'s {what} cannot change while it exists", hint=f"edgefl lab delete {self.name}")
        before, self.disk = self.disk, replace(self.disk, spec=spec)
        if self.is_running:
            self._group.limit(cpu=spec.cpu, memory_mb=spec.memory_mb)
            if before.spec.link != spec.link:
                self._plug()
        self.disk.save()

    def erase(self) -> None:
        """End the host and remove all that is alive of it: processes, mount, network, control groups. Its disk is the lab's."""
        self.kill()
        self._wire.kill()
        if self._capsule.is_alive:
            self._capsule.run("sh", "-euc", 'mountpoint -q "$0" && umount "$0" || true', str(self.disk.rootfs))
            self._capsule.run("sh", "-euc", network.remove_script(self.port))
        self._group.remove()
        self._wire.remove()

    def kill(self) -> None:
        """Cut its power."""
        self._group.kill()

    def freeze(self, frozen: bool) -> None:
        """Stop its processes in their tracks, or let them go on."""
        self.leader()
        self._group.freeze(frozen)

    def connect(self, up: bool) -> None:
        """Plug its network cable in, or pull it."""
        self.leader()
        self._capsule.run("ip", "link", "set", self.port.interface, "up" if up else "down")

    def reboot(self) -> None:
        """Restart it in good order; returns when its SSH server answers again."""
        before = self.leader()
        os.kill(before, _REBOOT)
        wait_until(lambda: self._leader() not in (None, before), f"{self.name} starting anew", deadline_s=BOOT_DEADLINE_S)
        self._await_ssh()

    def execute(self, argv: Sequence[str], stdin: str | None, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command as root on it, within its limits, not over its network."""
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        inside = ["env", "-i", *_ENVIRONMENT, "sh", "-c", 'cd /root && exec "$@"', "sh", *argv]
        enter = ["nsenter", f"--target={self.leader()}", *spaces, "--", *inside]
        return complete(in_group(self._group.child("keeper"), *enter), stdin=stdin, timeout_s=timeout_s)

    def leader(self) -> int:
        """The machine's number of the host's PID 1; LabFailed when it does not run."""
        if not self.is_running:
            raise LabFailed(f"{self.name} does not run", hint=f"edgefl lab start {self.name}")
        leader = self._leader()
        if leader is None:
            raise LabFailed(f"{self.name} is between two boots", hint="try again")
        return leader

    def _leader(self) -> int | None:
        return next(processes_named(self._group.child("box").processes(), 1), None)

    def _plug(self) -> None:
        self._wire.kill()
        plug(self._capsule, self._wire, self.port, self.disk.spec.link, log=self.disk.directory / "wire.log")

    def _await_ssh(self) -> None:
        def answers() -> bool:
            if not self._group.is_populated:
                said = self.disk.console.read_text(errors="replace").splitlines()[-5:]
                raise LabFailed(f"{self.name} ended while it started: " + " | ".join(said), hint=f"see {self.disk.console}")
            try:
                with dial(self._capsule.root, self.disk.spec.address, 22, timeout_s=2) as connection:
                    return connection.recv(4) == b"SSH-"
            except OSError:
                return False

        wait_until(
            answers,
            f"an answer of {self.name}'s SSH server (see {self.disk.console})",
            deadline_s=BOOT_DEADLINE_S,
            every_s=0.05,
        )
