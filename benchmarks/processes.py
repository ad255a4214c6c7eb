"""CPU time of processes as the kernel counts it: of a family of this machine's, and on a lab's hosts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgefl.federation.loopback import descendants
from edgefl.lab.capsule import Capsule
from edgefl.lab.hosts import Lab

_TRAINING = ("edgefl-superlink.service", "edgefl-superexec.service", "edgefl-supernode.service")


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds on a host: of the services that train, and of all else that lives there."""

    training: float
    beside: float


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have used: user and system, with those of their children that ended."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def family_cpu_s(roots: Iterable[int]) -> float:
    """The same of these processes and all that descend from them."""
    return cpu_s({pid for root in roots for pid in (root, *descendants(root))})


def spent(lab: Lab, hosts: Sequence[str]) -> dict[str, Spent]:
    """By host, since it booted. What `Lab.execute` runs there counts while it runs."""
    groups = Capsule(lab.root).group.child("hosts")
    found = {}
    for host in hosts:
        pids = groups.child(host).processes()
        training = [pid for pid in pids if _trains(pid)]
        found[host] = Spent(cpu_s(training), cpu_s(set(pids) - set(training)))
    return found


def _trains(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        groups = Path(f"/proc/{pid}/cgroup").read_text()
        return any(unit in groups for unit in _TRAINING)
    return False
