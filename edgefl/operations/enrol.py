"""Certify a device that SSH does not reach, or that lost its certificate: by a token, or by files that somebody carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events.enrolment import EnrolmentOpened
from edgefl.events.schema import Event
from edgefl.infra.inventory import Host
from edgefl.layout import ENROL
from edgefl.operations.deeds import note
from edgefl.operations.lock import site_lock
from edgefl.operations.reporting import report_certificates
from edgefl.operations.stage import chained
from edgefl.operations.state import inventory_of, kept_out, opened
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.pki.register import Entry

STAGE = "enrolment"
SIGN = "enrol sign"


class RequestUnreadable(EdgeflError):
    """There is no request in that file."""

    exit_code = ExitCode.USAGE


class Unwritten(EdgeflError):
    """The certificate has no place; it is signed all the same, and the same command gives it again."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Token:
    """A token, which nobody can show a second time. until: about when it ends; the coordinator's clock says exactly."""

    text: str
    device: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """A device's request for a certificate, as it was carried here. key: SHA-256 of its public key, hex."""

    pem: bytes
    device: str
    key: str


async def open_token(site: Site, device: str, *, life: timedelta, why: str = "") -> Token:
    """Have the coordinator let one device come in once, within `life`; an older token of the device ends with that.

    Only the token's hash leaves this machine. Raises HostUnknown, CsrRefused for a device in quarantine, MonitorUnreachable.
    """
    from edgefl.pki import tokens

    host = _device(site, device)
    token = tokens.make()
    async with watching(site) as monitor:
        await monitor.append(
            EnrolmentOpened(
                subject=host.name,
                addresses=[host.address],
                token_sha256=tokens.digest(token),
                valid_s=round(life.total_seconds()),
                leaf_hours=site.certificates.leaf_hours,
                why=why,
            )
        )
    return Token(token, host.name, datetime.now(UTC) + life)


def read(path: Path) -> Request:
    """The request in a file, and whom it claims to be of. Raises RequestUnreadable."""
    from edgefl.pki import request

    try:
        pem = path.read_bytes()
    except OSError as error:
        raise RequestUnreadable(
            f"{path} cannot be read: {error.strerror}", hint=f"on the device: {ENROL} request FILE"
        ) from error
    name, key = request.claimed(pem), request.key_of(pem)
    if not name or not key:
        what = f"{path} is no certificate request that was signed by its own key"
        raise RequestUnreadable(what, hint=f"on the device: {ENROL} request FILE")
    return Request(pem, name, key)


async def heard(site: Site, device: str) -> list[Event]:
    """What the journal says last of a device's enrolments, the newest first. Raises MonitorUnreachable."""
    from edgefl.fleet.enrolments import KINDS

    async with watching(site, renew=False) as monitor:
        page = await monitor.past(KINDS)
    return [event for event in page.events if getattr(event.body, "subject", "") == device]


async def sign(site: Site, asked: Request, out: Path) -> AsyncIterator[Progress]:
    """Certify the request of a device of the site by the operator's own authority; the chain lies in `out`.

    The same request again gets the same certificate while that serves; any other key that was certified before gets none. What
    is refused is noted for the audit log. Raises HostUnknown, CsrRefused, PkiError, Locked.
    """
    from edgefl.pki.renewals import write

    with site_lock(site, SIGN):
        with _refusal_noted(site, asked):
            host = _device(site, asked.device)
            chain, is_new = await asyncio.to_thread(_signed, site, host, asked)
        try:
            write(out, chain)
        except OSError as error:
            what = f"{host.name}'s certificate is signed, and {out} cannot be written: {error.strerror}"
            raise Unwritten(what, hint="the same command with another --out") from error
        yield Finished(STAGE, host.name, f"{'signed' if is_new else 'was signed before'}: {out}", changed=is_new)
        async for event in chained(report_certificates(site, SIGN, [host.name])):
            yield event


def _signed(site: Site, host: Host, asked: Request) -> tuple[bytes, bool]:
    """The chain, and whether it was signed just now."""
    from edgefl.pki.errors import CsrRefused
    from edgefl.pki.renewals import write

    kept = site.state / "enrolments" / f"{asked.key}.crt"
    authority = opened(site)
    before = [entry for entry in authority.certificates() if entry.key == asked.key]
    if before:
        if kept.exists() and _serves(before[-1], host):
            return kept.read_bytes(), False
        what = f"the key of this request was certified before, for {before[-1].subject}"
        raise CsrRefused(what, hint=f"on {host.name}: {ENROL} request --new-key FILE")
    chain = authority.sign_csr(asked.pem, name=host.name, role="device", addresses=[host.address]).chain
    kept.parent.mkdir(exist_ok=True, mode=0o700)
    write(kept, chain)
    return chain, True


def _serves(entry: Entry, host: Host) -> bool:
    return entry.subject == host.name and not entry.is_revoked and entry.expires > datetime.now(UTC)


def _device(site: Site, name: str) -> Host:
    """The device's host, if it may have a certificate. Raises HostUnknown, and CsrRefused for one in quarantine."""
    from edgefl.fleet.hosts import HostUnknown, select
    from edgefl.pki.errors import CsrRefused

    inventory = inventory_of(site)
    [host] = select(inventory, [name])
    if host.role != "device":
        what = f"{name} is the coordinator of {site.name}: tokens and requests are devices'"
        raise HostUnknown(what, hint=f"edgefl certs rotate {name}")
    if (entry := kept_out(site).get(name)) is not None:
        why = entry.reason or "no reason given"
        raise CsrRefused(f"{name} is in quarantine: {why}", hint=f"edgefl release {name} --why TEXT")
    return host


@contextmanager
def _refusal_noted(site: Site, asked: Request) -> Iterator[None]:
    try:
        yield
    except EdgeflError as error:
        note(site.state, SIGN, asked.device, failed=error.what, key_sha256=asked.key)
        raise
