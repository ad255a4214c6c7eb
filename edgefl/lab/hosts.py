"""The lab: real Debian hosts (systemd, sshd, nftables, limits of their own) on this machine, in namespaces.

Everything here may be called from several threads and processes at once. Work on one host excludes other work on that host;
work on different hosts runs in parallel; `down` waits for all of it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from edgefl.lab import machine, network, standing
from edgefl.lab.capsule import Capsule
from edgefl.lab.disk import Disk
from edgefl.lab.failure import HostUnknown, LabFailed
from edgefl.lab.host import Host, port_of
from edgefl.lab.image import image as cached_image
from edgefl.lab.keys import keypair
from edgefl.lab.locks import locked
from edgefl.lab.machine import Missing, Report, silent
from edgefl.lab.spec import HostSpec, HostState

__all__ = ["HostSpec", "HostState", "Lab", "LabFailed", "Missing"]

DEFAULT_NETWORK = IPv4Interface("10.77.0.1/24")


class Lab:
    """The hosts whose state lies in `root`.

    network: the lab's private network, its address being the operator's; None is the one that the lab was made with.
    Files in `root` for others to use: `ssh/id_ed25519` (root's key on every host), `known_hosts`.
    """

    def __init__(self, root: Path, network: IPv4Interface | None = None) -> None:
        self.root = root.absolute()
        self._network_file = self.root / "network"
        self.network = network or self._made_with or DEFAULT_NETWORK
        self.key = self.root / "ssh/id_ed25519"
        self.known_hosts = self.root / "known_hosts"
        self._capsule = Capsule(self.root)

    @staticmethod
    def requirements() -> list[Missing]:
        """What is missing on this machine and cannot be fetched; empty when a lab can stand."""
        return machine.requirements()

    # -- hosts ---------------------------------------------------------------------------------------------------------

    def use_layer(self, layer: Path | None) -> None:
        """Let hosts that are created from now on (and are `preloaded`) start on this layer, as `preload` made it.

        Hosts that exist keep the disk they have: what is new in a bundle reaches them as it reaches a real device.
        """
        self._make_root()
        file = self.root / "layer"
        if layer is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(f"{layer}\n")

    def create(self, spec: HostSpec, *, image: Path | None = None, report: Report = silent) -> HostState:
        """Have the host as `spec` says and running; returns when its SSH server answers.

        A host that exists is changed where it differs, and booted from its disk where it does not run (it was killed, the lab
        crashed, the machine was restarted). Raises NeedsRoot where no lab can stand, LabFailed when the host does not come up;
        what was made of it then stays, for `read`, `delete` and another try.
        """
        machine.demand()
        machine.provide(machine.TOOLS, report)
        port_of(spec, self.network)
        with self._standing(), self._working_on(spec.name):
            self._ensure_capsule()
            disk = self._load(spec.name) or self._make_disk(spec, image or cached_image(report=report))
            host = Host(self._capsule, self.network, disk)
            if disk.spec != spec:
                host.change(spec)
            if not host.is_running:
                host.boot()
            return host.state

    def read(self, name: str) -> HostState | None:
        """The host as it is; None when the lab has none of that name."""
        disk = self._load(name)
        return None if disk is None else Host(self._capsule, self.network, disk).state

    def running(self, name: str) -> HostState:
        """The host, which runs; LabFailed when it does not."""
        host = self._host(name)
        host.leader()
        return host.state

    def hosts(self) -> list[HostState]:
        """Every host, in the order of their addresses."""
        states = [state for path in (self.root / "hosts").glob("*") if (state := self.read(path.name))]
        return sorted(states, key=lambda state: IPv4Address(state.spec.address))

    def update(self, spec: HostSpec) -> HostState:
        """Change a host's limits and link, at once where it runs and at its next boot where it does not.

        Raises LabFailed for what cannot change (name, address, data, preloaded), and when the kernel refuses a limit.
        """
        with self._standing(), self._working_on(spec.name):
            host = self._host(spec.name)
            host.change(spec)
            return host.state

    def delete(self, name: str) -> None:
        """End the host and erase its disk; nothing happens when there is none. With the last host the lab's processes end."""
        with self._standing(), self._working_on(name):
            if disk := self._load(name):
                Host(self._capsule, self.network, disk).erase()
            self._forget(name)
        with self._alone():
            if not any((self.root / "hosts").glob("*")):
                self._end()

    def down(self) -> None:
        """End every host and erase the lab: no process, mount, control group, setting or file of it is left."""
        with self._alone():
            self._end()
            shutil.rmtree(self.root, ignore_errors=True)
            if self.root.exists():
                raise LabFailed(f"{self.root} cannot be removed", hint=f"rm -r {self.root}")

    # -- what the owner of hardware could do to it -----------------------------------------------------------------------

    def execute(
        self,
        name: str,
        argv: Sequence[str],
        input: str | None = None,  # noqa: A002 - subprocess' own word
        *,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the host, within its limits, not over its network; the exit status is the caller's to judge.

        Raises LabFailed when the host does not run or the command does not end in time.
        """
        return self._host(name).execute(argv, input, timeout_s)

    def start(self, name: str) -> HostState:
        """Boot a host from its disk where it does not run."""
        return self.create(self._host(name).disk.spec)

    def kill(self, name: str) -> None:
        """Cut the host's power: everything in it ends at once; its disk stays."""
        self._host(name).kill()

    def freeze(self, name: str) -> None:
        """Stop every process of the host in its tracks; the kernel still answers pings for it."""
        self._host(name).freeze(True)

    def thaw(self, name: str) -> None:
        """Let a frozen host go on."""
        self._host(name).freeze(False)

    def cut(self, name: str) -> None:
        """Pull the host's network cable."""
        self._host(name).connect(False)

    def join(self, name: str) -> None:
        """Plug the host's network cable in again."""
        self._host(name).connect(True)

    def reboot(self, name: str) -> None:
        """Restart the host in good order; returns when its SSH server answers again."""
        with self._standing(), self._working_on(name):
            self._host(name).reboot()

    def partition(self, a: str, b: str) -> None:
        """Let two hosts hear nothing of each other; what else they hear stays."""
        self._part(a, b, parted=True)

    def heal(self, a: str, b: str) -> None:
        """Undo `partition`."""
        self._part(a, b, parted=False)

    # -- how it is done --------------------------------------------------------------------------------------------------

    def _ensure_capsule(self) -> None:
        with locked(self._lock("capsule")):
            if not self._capsule.is_alive:
                self._make_root()
                keypair(self.key, "edgefl-lab")
                self._network_file.write_text(f"{self.network}\n")
                self._capsule.start(network.bridge_script(self.network))
                standing.stands(self.root)
            elif self._made_with != self.network:
                raise LabFailed(f"the lab stands on {self._made_with}, not on {self.network}", hint="edgefl down, then edgefl up")

    @property
    def _made_with(self) -> IPv4Interface | None:
        """The network that the lab was last started with."""
        try:
            return IPv4Interface(self._network_file.read_text().strip())
        except FileNotFoundError:
            return None

    def _end(self) -> None:
        self._capsule.stop()
        standing.is_gone(self.root)

    def _make_root(self) -> None:
        if Path("/run") in self.root.parents:
            raise LabFailed(f"a lab cannot lie under /run, as {self.root} does: its hosts have a /run of their own")
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        (self.root / "ssh").mkdir(exist_ok=True, mode=0o700)

    def _make_disk(self, spec: HostSpec, image: Path) -> Disk:
        pointer = self.root / "layer"
        layer = Path(pointer.read_text().strip()) if spec.preloaded and pointer.exists() else None
        disk = Disk.make(self._directory(spec.name), spec, image, layer, keypair(self.key, "edgefl-lab"))
        self._write_known_hosts()
        return disk

    def _write_known_hosts(self) -> None:
        with locked(self._lock("known-hosts")):
            disks = [disk for path in sorted((self.root / "hosts").glob("*")) if (disk := Disk.load(path))]
            partial = self.root / "known_hosts.partial"
            partial.write_text("".join(f"{disk.spec.address},{disk.spec.name} {disk.host_key}\n" for disk in disks))
            partial.rename(self.known_hosts)

    def _forget(self, name: str) -> None:
        """Erase a host's disk. It leaves the lab in one step, so that nobody who looks at all hosts meets half of one."""
        if not self._directory(name).exists():
            return
        erased = self.root / "erased" / name
        shutil.rmtree(erased, ignore_errors=True)
        erased.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._lock("known-hosts")), suppress(FileNotFoundError):
            self._directory(name).rename(erased)
        self._write_known_hosts()
        shutil.rmtree(erased, ignore_errors=True)

    def _part(self, a: str, b: str, *, parted: bool) -> None:
        rules = network.partition_rules(self._host(a).port, self._host(b).port, parted=parted)
        self._capsule.run("nft", "-f", "-", stdin=rules)

    def _host(self, name: str) -> Host:
        disk = self._load(name)
        if disk is None:
            raise HostUnknown(name, [state.spec.name for state in self.hosts()])
        return Host(self._capsule, self.network, disk)

    def _load(self, name: str) -> Disk | None:
        return Disk.load(self._directory(name))

    def _directory(self, name: str) -> Path:
        return self.root / "hosts" / name

    def _lock(self, what: str) -> Path:
        return machine.RUN / f"{self._capsule.id}-{what}.lock"

    @contextmanager
    def _standing(self) -> Iterator[None]:
        """The lab as a whole neither ends nor is erased meanwhile."""
        with locked(self._lock("lab"), shared=True):
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else does anything to the lab meanwhile."""
        with locked(self._lock("lab")):
            yield

    @contextmanager
    def _working_on(self, name: str) -> Iterator[None]:
        """Nobody else changes this host meanwhile."""
        with locked(self._lock(f"host-{name}")):
            yield
