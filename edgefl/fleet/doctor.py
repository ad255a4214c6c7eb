"""What ails a host: from the wire up to its services, each a check with a verdict and a fix. Nothing is changed.

A device is followed further, from itself to the coordinator, as its service goes: a name, the gate, TLS, admission, registration.
Checks stand in the order of cause and effect, so that the first that is bad is the verdict.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError
from edgefl.fleet import enrolments, facts, observing, preflight, registration, ssh, way
from edgefl.fleet.bundle import Bundle
from edgefl.fleet.dial import dial
from edgefl.fleet.facts import Facts
from edgefl.fleet.finding import Finding
from edgefl.infra.inventory import Host
from edgefl.site.model import Site
from edgefl.site.observability import SUBJECT

if TYPE_CHECKING:
    from cryptography import x509

REACH = ("tcp", "host key", "login", "root and python")
"""The operator's way to the host, in the order in which one rests upon the other."""
_SERVICES = {
    "coordinator": ("edgefl-superlink", "edgefl-superexec", "edgefl-monitor", "edgefl-gate"),
    "device": ("edgefl-supernode", "edgefl-superexec"),
    "watcher": (),
}
"""What every site has; what watches, its site says."""
_TUNNEL = "tunnel-edgefl"
Standings = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]]
"""Asks the SuperLink how it knows devices, by name and public key."""
_TIMEOUT_S = 5.0
_UNSURE_S = 2.0
"""What a date in whole seconds, and the way there and back, leave open between two clocks."""


def checks(host: Host) -> tuple[str, ...]:
    """The names of a host's checks before its services, in their order."""
    if host.role != "device":
        return (*REACH, "fitness", "clock", "certificate", "firewall")
    return (*REACH, "fitness", "clock", "token", "certificate", "firewall", *way.CHECKS, "registration")


def verdict(findings: Iterable[Finding]) -> Finding | None:
    """The cause: the first that is bad, for what follows from it stands behind it. None for a host that is well."""
    return next((finding for finding in findings if finding.verdict == "bad"), None)


async def examine(
    host: Host,
    site: Site,
    coordinator: Host,
    bundle: Bundle | None = None,
    standings: Standings | None = None,
    *,
    heard: enrolments.Heard | None = None,
) -> AsyncIterator[Finding]:
    """Every check in its order; where one is bad that others rest upon, those are skipped. Raises nothing about the host.

    standings: None leaves out whether the device is registered. heard: None leaves out what its tokens came to.
    """
    reached = 0
    async for finding in _reach(host):
        reached += 1
        yield finding
        if finding.verdict == "bad":
            for check in checks(host)[reached:]:
                yield Finding(host.name, check, "skipped", f"needs {finding.check}")
            return
    try:
        found, said = await asyncio.gather(facts.gather(host, services=True), _walked(host))
    except EdgeflError as error:
        yield Finding(host.name, "root and python", "bad", error.what, error.hint)
        for check in checks(host)[reached + 1 :]:
            yield Finding(host.name, check, "skipped", "needs root and python")
        return
    yield Finding(host.name, "root and python", "good", f"Python {found.python} as root")
    yield _fitness(host, site, found, bundle)
    yield clock(host, site, found, way.clock_skew_s(said))
    own = list(_own(host, site, found))
    if host.role == "device":
        yield await _token(host, own[0], heard)
    for finding in own:
        yield finding
    async for finding in _beyond(host, site, coordinator, said, standings):
        yield finding
    for finding in services(host, site, found):
        yield finding


async def _walked(host: Host) -> way.Said:
    return await way.walk(host) if host.role == "device" else {}


async def _token(host: Host, certificate: Finding, heard: enrolments.Heard | None) -> Finding:
    """What stands between the device and a certificate, where it has none; the coordinator is asked only then."""
    is_certified = certificate.verdict == "good"
    try:
        said = await heard(host.name) if heard is not None and not is_certified else ()
    except EdgeflError as error:
        return Finding(host.name, "token", "skipped", f"the coordinator could not be asked: {error.what}")
    return enrolments.judge(host.name, is_certified=is_certified, heard=said, now=datetime.now(UTC))


def _own(host: Host, site: Site, found: Facts) -> Iterator[Finding]:
    yield certificate(host, found, datetime.now(UTC), authorities(site))
    yield firewall(host, found)
    yield from tunnel(host, site, found)


async def _beyond(
    host: Host,
    site: Site,
    coordinator: Host,
    said: way.Said,
    standings: Standings | None,
) -> AsyncIterator[Finding]:
    """The way to the coordinator; where that ends at it, what ails the coordinator comes first, as the cause."""
    if host.role != "device":
        return
    walked = list(way.judge(host.name, said, coordinator.name))
    bad = verdict(walked)
    if bad is not None and bad.check in {"gate", "tls", "name", "superlink"}:
        async for finding in _ailing(coordinator, site):
            yield finding
    for finding in walked:
        yield finding
    if standings is None:
        yield Finding(host.name, "registration", "skipped", "the coordinator was not asked")
        return
    try:
        known = await standings({host.name: str(said.get("node_key", ""))})
    except EdgeflError as error:
        yield Finding(host.name, "registration", "skipped", f"the SuperLink could not be asked: {error.what}")
        return
    yield registration.judge(host.name, known.get(host.name, "unknown"))


async def _ailing(coordinator: Host, site: Site) -> AsyncIterator[Finding]:
    """What is bad at the coordinator, as seen from the operator's side."""
    async for finding in _reach(coordinator):
        if finding.verdict == "bad":
            yield finding
            return
    try:
        found = await facts.gather(coordinator, services=True)
    except EdgeflError as error:
        yield Finding(coordinator.name, "root and python", "bad", error.what, error.hint)
        return
    for finding in (clock(coordinator, site, found, None), *_own(coordinator, site, found), *services(coordinator, site, found)):
        if finding.verdict == "bad":
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
    """What preflight asks for, but for the clock, which is a check of its own."""
    told = preflight.problems(host, found, site.preflight, python=site.runtime.python, bundle=bundle)
    wrong = [problem for problem in told if problem.kind != "clock"]
    if wrong:
        return Finding(host.name, "fitness", "bad", "; ".join(problem.what for problem in wrong), wrong[0].fix)
    free = min(found.free_mb.values())
    shown = f"{found.distribution} {found.release}, {free / 1024:.0f} GiB free, {found.memory_mb} MiB of memory"
    return Finding(host.name, "fitness", "good", shown)


def clock(host: Host, site: Site, found: Facts, skew_s: float | None) -> Finding:
    """Whether the host's clock is the operator's, and the coordinator's (`skew_s` ahead of that, None where it did not say)."""
    for problem in preflight.problems(host, found, site.preflight, python=site.runtime.python):
        if problem.kind == "clock":
            return Finding(host.name, "clock", "bad", problem.what, problem.fix)
    if skew_s is not None and abs(skew_s) > site.preflight.max_clock_skew_s + _UNSURE_S:
        what = f"its clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the coordinator's"
        return Finding(host.name, "clock", "bad", what, "edgefl doctor coordinator; one of the two is wrong")
    both = " and the coordinator's" if skew_s is not None else ""
    return Finding(host.name, "clock", "good", f"within {abs(found.skew_s):.1f} s of the operator's{both}")


def authorities(site: Site) -> list[x509.Certificate]:
    """Those that the operator trusts: the site's roots, and what signs below them; none before there are any."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates((site.state / "operator" / "ca.crt").read_bytes())
    except (OSError, ValueError):
        return []


def certificate(host: Host, found: Facts, now: datetime, trusted: Sequence[x509.Certificate] = ()) -> Finding:
    """Whether the host's certificate is its own, is of the site's authority, and lives."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    if not found.certificate.strip():
        return Finding(host.name, "certificate", "bad", "it has none", "edgefl up")
    try:
        leaf, *above = x509.load_pem_x509_certificates(found.certificate.encode())
    except ValueError as error:
        return Finding(host.name, "certificate", "bad", f"it cannot be read: {error}", "edgefl up")
    names = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if (SUBJECT if host.role == "watcher" else host.name) not in names:
        return Finding(host.name, "certificate", "bad", f"it is for {', '.join(names) or 'nobody'}", "edgefl up")
    if trusted and not _is_of(leaf, above, trusted):
        who = leaf.issuer.rfc4514_string()
        return Finding(host.name, "certificate", "bad", f"it is not of the site's authority, but of {who}", "edgefl up")
    left = leaf.not_valid_after_utc - now
    when = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta(0):
        return Finding(host.name, "certificate", "bad", f"it expired on {when}", "edgefl up")
    if leaf.not_valid_before_utc > now:
        found_ = f"it holds only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return Finding(host.name, "certificate", "bad", found_, "check the clocks")
    return Finding(host.name, "certificate", "good", f"holds until {when}, {left / timedelta(hours=1):.1f} h")


def _is_of(leaf: x509.Certificate, above: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> bool:
    """Whether one of the trusted signed it, or certified an authority in its chain that did, as the coordinator's."""
    authorities = [one for one in above if _is_authority(one) and any(_is_issued_by(one, root) for root in trusted)]
    return any(_is_issued_by(leaf, one) for one in (*trusted, *authorities))


def _is_authority(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _is_issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def firewall(host: Host, found: Facts) -> Finding:
    """Whether edgefl's chains are loaded, drop in both directions by default, and are those that it put there."""
    policies = {chain["hook"]: chain["policy"] for chain in found.firewall}
    lacking = [hook for hook in ("input", "output") if policies.get(hook) != "drop"]
    if lacking:
        return Finding(host.name, "firewall", "bad", f"{' and '.join(lacking)} is not dropped by default", "edgefl up")
    if found.walls == "altered":
        what = "its rules are not those that edgefl loaded: somebody changed them"
        return Finding(host.name, "firewall", "bad", what, "edgefl up puts them right")
    return Finding(host.name, "firewall", "good", "drops by default in both directions; edgefl verify proves it")


def tunnel(host: Host, site: Site, found: Facts) -> Iterator[Finding]:
    """The host's end of the tunnel, upon which the way to the coordinator rests where the site has one."""
    if site.isolation.tunnel and host.role != "watcher":
        yield _service(host, found, _TUNNEL)


def services(host: Host, site: Site, found: Facts) -> Iterator[Finding]:
    """Each service that the host has by its role and its site: running, and not coming back again and again."""
    return (_service(host, found, name) for name in (*_SERVICES[host.role], *observing.services(site, host)))


def _service(host: Host, found: Facts, name: str) -> Finding:
    unit = next((unit for unit in found.services if unit.get("Id", "") == f"{name}.service"), None)
    look = f"edgefl logs {host.name}, or on it: journalctl -u {name} -n 50"
    if unit is None:
        return Finding(host.name, name, "bad", "is not installed", "edgefl up")
    if unit["ActiveState"] == "inactive":
        return Finding(host.name, name, "bad", "was stopped", "edgefl up starts it")
    if unit["ActiveState"] != "active":
        return Finding(host.name, name, "bad", f"is {unit['ActiveState']} ({unit['SubState']}, {unit['Result']})", look)
    restarts = int(unit.get("NRestarts", "0") or 0)
    return Finding(host.name, name, "good", "runs" + (f", restarted {restarts} times" if restarts else ""))
