"""What a host says of itself, in one round trip over SSH."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import ssh
from edgefl.fleet.remote import program
from edgefl.infra.inventory import Host

_NO_PYTHON = 127
_START = 'command -v python3 >/dev/null 2>&1 || exit 127; exec python3 - "$@"'


class HostUnfit(EdgeflError):
    """The host answers, but cannot be managed: no Python, or no root."""

    exit_code = ExitCode.PREFLIGHT_FAILED


@dataclass(frozen=True, slots=True)
class Facts:
    """A host as it is. Sizes in MiB; `skew_s` is how far its clock is off the operator's, at least.

    distribution, accelerators, certificate (its own chain in PEM), services, firewall, walls: as remote/facts.py describes them;
    the last four are empty unless asked for.
    """

    python: str
    architecture: str
    glibc: str
    release: str
    kernel: str
    cores: int
    memory_mb: int
    free_mb: dict[str, int]
    has_systemd: bool
    commands: tuple[str, ...]
    skew_s: float
    certificate: str = ""
    services: tuple[dict[str, str], ...] = ()
    firewall: tuple[dict[str, str], ...] = field(default=())
    walls: str = ""
    distribution: str = ""
    accelerators: tuple[str, ...] = ()


async def gather(host: Host, *, services: bool = False) -> Facts:
    """Ask the host. Raises the errors of `ssh.run`, and HostUnfit when it has no Python or gives no root."""
    asked = time.time()
    done = await ssh.run(host, ["sh", "-c", _START, "facts", *(["services"] if services else [])], program("facts"))
    answered = time.time()
    if done.returncode == _NO_PYTHON:
        raise HostUnfit(f"{host.name} has no python3", hint=f"on {host.name}: apt install python3")
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise _refused(host, reason[-1] if reason else f"status {done.returncode}") from error
    if said.pop("uid") != 0:
        raise _refused(host, "commands do not run as root")
    skew = clock_skew(said.pop("time"), asked, answered)
    said.update({name: tuple(said.get(name, ())) for name in ("commands", "services", "firewall", "accelerators")})
    return Facts(**said, skew_s=skew)


def clock_skew(told: float, asked: float, answered: float) -> float:
    """How far `told` lies outside the time between question and answer, in seconds; negative is behind."""
    if told < asked:
        return told - asked
    return max(0.0, told - answered)


def _refused(host: Host, reason: str) -> HostUnfit:
    return HostUnfit(
        f"{host.name} does not let {host.user} act as root: {reason}",
        hint=f"on {host.name}: echo '{host.user} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/{host.user}",
    )
