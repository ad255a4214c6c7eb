"""What the lab needs of the machine it stands on: said when it is missing, fetched where that can be done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgefl.errors import NeedsRoot
from edgefl.lab.cgroups import Hierarchies
from edgefl.lab.command import PATH, run
from edgefl.lab.failure import LabFailed
from edgefl.lab.locks import locked
from edgefl.progress import Finished, Progress, Started

RUN = Path("/run/edgefl")
"""What the machine's labs share: a lock, which labs stand, and the settings to put back."""

Report = Callable[[Progress], None]

TOOLS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ssh": "openssh-client",
}
"""Tools that the lab runs on the machine, and the Debian packages that have them."""
IMAGE_TOOLS = {"mmdebstrap": "mmdebstrap", "gpgv": "gpgv"}
"""Those that only the building of an image needs."""

CAP_SYS_ADMIN = 21
CAP_NET_ADMIN = 12


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing without which the lab cannot stand, and how to come by it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} ({self.remedy})"


def silent(_: Progress) -> None:
    """Report to nobody."""


def requirements() -> list[Missing]:
    """Everything that is missing here and that the lab cannot fetch by itself; empty when a lab can stand."""
    if os.geteuid() != 0:
        return [Missing("root", "run it with sudo")]
    missing = []
    for bit, name in ((CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")):
        if not _effective_capabilities() >> bit & 1:
            missing.append(
                Missing(f"the capability {name}", "this is a container without it; use a machine or a privileged container")
            )
    if not _kernel_has_overlay():
        missing.append(Missing("overlayfs in the kernel", "modprobe overlay"))
    hierarchies = Hierarchies.of_machine()
    if hierarchies is None:
        missing.append(
            Missing("a cgroup v2 hierarchy", "mount -t cgroup2 none /sys/fs/cgroup, or boot with the unified hierarchy")
        )
    elif not os.access(hierarchies.unified, os.W_OK) or os.statvfs(hierarchies.unified).f_flag & os.ST_RDONLY:
        missing.append(Missing("a writable cgroup v2 hierarchy", f"{hierarchies.unified} is mounted read-only"))
    packages = sorted(_packages({**TOOLS, **IMAGE_TOOLS}))
    if packages and shutil.which("apt-get", path=PATH) is None:
        missing.append(Missing(", ".join(packages), "there is no apt-get here to install them with"))
    return missing


def demand() -> None:
    """Raise NeedsRoot naming everything that is missing, and what works without it."""
    if missing := requirements():
        raise NeedsRoot(
            "the lab cannot stand on this machine; missing: " + "; ".join(map(str, missing)),
            hint="without it: devices of your own (`infrastructure: {module: static}`), `edgefl init`, `check` and `plan`",
        )


def provide(tools: dict[str, str], report: Report = silent) -> None:
    """Have these tools on the machine, installed by apt where they are missing; nothing happens when all are there."""
    if not _packages(tools):
        return
    with locked(RUN / "apt.lock"):
        wanted = sorted(_packages(tools))  # another process may have installed them meanwhile
        if not wanted:
            return
        report(Started("lab", "machine", f"installing {', '.join(wanted)}"))
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *wanted]
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        try:
            run(install, env=quiet, timeout_s=600)
        except LabFailed:  # the package lists are missing or old: fetch them once, then it must work
            run(["apt-get", "update", "-q"], env=quiet, timeout_s=300)
            run(install, env=quiet, timeout_s=600)
        report(Finished("lab", "machine", f"{', '.join(wanted)} installed", changed=True))


def _packages(tools: dict[str, str]) -> set[str]:
    return {package for tool, package in tools.items() if shutil.which(tool, path=PATH) is None}


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _kernel_has_overlay() -> bool:
    def listed() -> bool:
        return "\toverlay\n" in Path("/proc/filesystems").read_text()

    if not listed() and shutil.which("modprobe", path=PATH):
        try:
            run(["modprobe", "overlay"])
        except LabFailed:
            return False
    return listed()
