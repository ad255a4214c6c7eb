"""What ails a host: from the wire up to its services, each a check with a verdict and a fix. Nothing is changed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from edgefl.errors import EdgeflError
from edgefl.fleet import facts, preflight, ssh
from edgefl.fleet.bundle import Bundle
from edgefl.fleet.dial import dial
from edgefl.fleet.facts import Facts
from edgefl.infra.inventory import Host
from edgefl.site.model import Site

Verdict = Literal["good", "bad", "skipped"]
CHECKS = ("tcp", "host key", "login", "root and python", "fitness", "certificate", "firewall", "services")
"""In the order in which one rests upon the other."""
_SERVICES = {
    "coordinator": ("edgefl-superlink", "edgefl-superexec", "edgefl-monitor", "edgefl-gate"),
    "device": ("edgefl-supernode", "edgefl-superexec"),
}
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one host: what was found, and what to do where it is bad."""

    host: str
    check: str
    verdict: Verdict
    found: str
    fix: str = ""


async def examine(host: Host, site: Site, bundle: Bundle | None = None) -> AsyncIterator[Finding]:
    """Every check in its order; where one is bad that others rest upon, those are skipped. Raises nothing about the host."""
    found: Facts | None = None
    done: list[str] = []
    async for finding in _reach(host):
        done.append(finding.check)
        yield finding
        if finding.verdict == "bad":
            for check in CHECKS[len(done) :]:
                yield Finding(host.name, check, "skipped", f"needs {finding.check}")
            return
    try:
        found = await facts.gather(host, services=True)
    except EdgeflError as error:
        yield Finding(host.name, "root and python", "bad", error.what, error.hint)
        for check in CHECKS[len(done) + 1 :]:
            yield Finding(host.name, check, "skipped", "needs root and python")
        return
    yield Finding(host.name, "root and python", "good", f"Python {found.python} as root")
    yield _fitness(host, site, found, bundle)
    yield certificate(host, found, datetime.now(UTC))
    yield firewall(host, found)
    for finding in services(host, found):
        yield finding


async def _reach(host: Host) -> AsyncIterator[Finding]:
    """The wire, the host's key, the operator's key: two connections."""
    try:
        connection = await asyncio.to_thread(dial, host, host.port, _TIMEOUT_S)
    except (OSError, EdgeflError) as error:
        yield Finding(host.name, "tcp", "bad", f"{host.address}:{host.port}: {_reason(error)}", _tcp_fix(host, error))
        return
    with connection:
        connection.settimeout(_TIMEOUT_S)
        banner = await asyncio.to_thread(_banner, connection)
    if not banner.startswith("SSH-"):
        yield Finding(
            host.name, "tcp", "bad", f"port {host.port} answers, but not with SSH: {banner or 'nothing'}", "check `ssh_port`"
        )
        return
    yield Finding(host.name, "tcp", "good", f"{host.address}:{host.port} answers as {banner}")
    try:
        await ssh.run(host, ["true"])
    except ssh.HostKeyMismatch as error:
        yield Finding(host.name, "host key", "bad", error.what, error.hint)
        return
    except ssh.AuthenticationRefused as error:
        yield Finding(host.name, "host key", "good", "it is the host that is known")
        yield Finding(host.name, "login", "bad", error.what, error.hint)
        return
    except ssh.DeviceUnreachable as error:
        yield Finding(host.name, "host key", "bad", error.what, f"on {host.name}: journalctl -u ssh -n 20")
        return
    yield Finding(host.name, "host key", "good", "it is the host that is known")
    yield Finding(host.name, "login", "good", f"accepts {host.user}")


def _banner(connection: socket.socket) -> str:
    try:
        return connection.recv(255).decode(errors="replace").strip()
    except OSError:
        return ""


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer for {_TIMEOUT_S:.0f} s"
    return getattr(error, "strerror", None) or str(error)


def _tcp_fix(host: Host, error: Exception) -> str:
    if isinstance(error, EdgeflError):
        return error.hint
    if isinstance(error, ConnectionRefusedError):
        return f"start sshd on {host.name}, or set `ssh_port` in site.yaml"
    if host.capsule:
        return "edgefl up boots it again"
    return f"is {host.name} switched on, at {host.address}, and this machine among `isolation.operator_addresses`?"


def _fitness(host: Host, site: Site, found: Facts, bundle: Bundle | None) -> Finding:
    wrong = list(preflight.problems(host, found, site.preflight, python=site.runtime.python, bundle=bundle))
    if wrong:
        return Finding(host.name, "fitness", "bad", "; ".join(problem.what for problem in wrong), wrong[0].fix)
    free = min(found.free_mb.values())
    shown = f"clock within {abs(found.skew_s):.1f} s, {free / 1024:.0f} GiB free, {found.memory_mb} MiB of memory"
    return Finding(host.name, "fitness", "good", shown)


def certificate(host: Host, found: Facts, now: datetime) -> Finding:
    """Whether the host's certificate is its own and lives for long enough to be renewed."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    if not found.certificate.strip():
        return Finding(host.name, "certificate", "bad", "it has none", "edgefl up")
    try:
        leaf = x509.load_pem_x509_certificate(found.certificate.encode())
    except ValueError as error:
        return Finding(host.name, "certificate", "bad", f"it cannot be read: {error}", "edgefl up")
    names = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if host.name not in names:
        return Finding(host.name, "certificate", "bad", f"it is for {', '.join(names) or 'nobody'}", "edgefl up")
    left = leaf.not_valid_after_utc - now
    when = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta(0):
        return Finding(host.name, "certificate", "bad", f"it expired on {when}", "edgefl up")
    if leaf.not_valid_before_utc > now:
        return Finding(
            host.name,
            "certificate",
            "bad",
            f"it holds only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            "check the clocks",
        )
    return Finding(host.name, "certificate", "good", f"holds until {when}, {left / timedelta(hours=1):.1f} h")


def firewall(host: Host, found: Facts) -> Finding:
    """Whether edgefl's chains are loaded, and drop in both directions by default."""
    policies = {chain["hook"]: chain["policy"] for chain in found.firewall}
    lacking = [hook for hook in ("input", "output") if policies.get(hook) != "drop"]
    if lacking:
        return Finding(host.name, "firewall", "bad", f"{' and '.join(lacking)} is not dropped by default", "edgefl up")
    return Finding(host.name, "firewall", "good", "drops by default in both directions; edgefl verify proves it")


def services(host: Host, found: Facts) -> Iterator[Finding]:
    """Each service that the host's role needs: running, and not coming back again and again."""
    units = {unit.get("Id", "").removesuffix(".service"): unit for unit in found.services}
    for name in _SERVICES[host.role]:
        unit = units.get(name)
        look = f"edgefl logs {host.name}, or on it: journalctl -u {name} -n 50"
        if unit is None:
            yield Finding(host.name, name, "bad", "is not installed", "edgefl up")
        elif unit["ActiveState"] != "active":
            yield Finding(host.name, name, "bad", f"is {unit['ActiveState']} ({unit['SubState']}, {unit['Result']})", look)
        else:
            restarts = int(unit.get("NRestarts", "0") or 0)
            yield Finding(host.name, name, "good", "runs" + (f", restarted {restarts} times" if restarts else ""))
