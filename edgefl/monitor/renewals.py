"""Hosts renew their certificates here, each its own and none but its own.

Who asks, the gate has verified: it hands on the certificate that opened it. What is signed is that certificate's successor, for
another key; nothing that the request itself says of names, roles or times counts.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cryptography import x509
from fastapi import Body, FastAPI, Header

from edgefl.events.schema import CertificateIssued, CertificateRefused
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.monitor.access import Caller, caller
from edgefl.monitor.certified import Certified
from edgefl.monitor.errors import Busy, Refused
from edgefl.monitor.state import FederationState
from edgefl.monitor.tail import Tail
from edgefl.pki.anchors import subject
from edgefl.pki.errors import CsrRefused
from edgefl.pki.renew import PATH
from edgefl.pki.renewal import RenewalAuthority, Renewed

MOST_AN_HOUR = 6
"""Renewals of one certificate: who asks more often fills the journal."""
TELL_S = 600.0
"""Between two events of what one caller was refused: one that is owned must not fill the journal."""

log = logging.getLogger("edgefl")


class RenewalRefused(Refused):
    """A certificate gets no successor."""

    http_status: ClassVar[int] = 403


class TooOften(Busy):
    """It was renewed a moment ago."""


class Renewals:
    """What the coordinator renews. directory: the renewal authority's; anchors: the host's ca.crt."""

    def __init__(
        self, host: HostConfig, tail: Tail, directory: Path, anchors: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host, self._tail, self._directory, self._anchors, self._clock = host, tail, directory, anchors, clock
        self._certified = Certified(tail.journal)
        self._asked: dict[Caller, deque[float]] = defaultdict(deque)
        self._told: dict[Caller, float] = {}
        self._untold: dict[Caller, int] = defaultdict(int)
        self._one_at_a_time = asyncio.Lock()

    async def renew(self, who: Caller, certificate: str, csr: str) -> Renewed:
        """The successor of the caller's certificate (base64 of its DER), once the journal has it.

        Raises RenewalRefused, TooOften, and PkiError where this coordinator can renew nothing.
        """
        async with self._one_at_a_time:
            await self._tail.catch_up()
            try:
                self._admit(who)
                current = _current(who, certificate)
                renewed = await asyncio.to_thread(self._signed, current, csr.encode())
            except CsrRefused as error:
                await self._refused(who, error.what)
                raise RenewalRefused(error.what, hint=error.hint) from error
            except TooOften as error:
                await self._refused(who, error.what)
                raise
            self._asked[who].append(self._clock())
            await asyncio.to_thread(self._tail.journal.append_all, [issued(who, renewed)])
            await self._tail.catch_up()
            return renewed

    async def _refused(self, who: Caller, why: str) -> None:
        """Into the journal, or with the next refusal that is told."""
        log.warning("no renewal for %s as %s: %s", who.name, who.role, why)
        now = self._clock()
        self._untold[who] += 1
        if now - self._told.get(who, now - TELL_S) < TELL_S:
            return
        self._told[who] = now
        body = CertificateRefused(subject=who.name[:200], role=who.role[:40], reason=why[:300], times=self._untold.pop(who))
        await asyncio.to_thread(self._tail.journal.append, body)

    def _admit(self, who: Caller) -> None:
        """Raise unless the site still knows this host in this role, and it does not ask too often."""
        admit(self._host, self._tail.state, who)
        times = self._asked[who]
        while times and self._clock() - times[0] > 3600:
            times.popleft()
        if len(times) >= MOST_AN_HOUR:
            what = f"{who.name} has renewed {len(times)} times within an hour"
            raise TooOften(what, again_s=3600 - (self._clock() - times[0]), hint="it is asked again by itself")

    def _signed(self, current: x509.Certificate, csr: bytes) -> Renewed:
        authority = RenewalAuthority.load(self._directory, self._anchors)
        self._certified.learn()
        return authority.renew(current, csr, used=self._certified.keys)


def admit(host: HostConfig, state: FederationState, who: Caller) -> None:
    """Raise CsrRefused unless the site has this host in this role, and nobody keeps it out."""
    if who.name not in (host.devices if who.role == "device" else [host.name]):
        raise CsrRefused(f"{who.name} is no {who.role} of {host.site}")
    row = state.devices.get(who.name)
    if row is not None and row.standing in {"quarantined", "removed"}:
        raise CsrRefused(f"{who.name} is {row.standing}", hint=f"edgefl devices {who.name}")
    newest = state.certificates.get(f"{who.role}/{who.name}")
    if newest is not None and newest.revoked:
        raise CsrRefused(f"{who.name}'s certificate is revoked: {newest.revoked}", hint=f"edgefl devices {who.name}")


def issued(who: Caller, renewed: Renewed) -> CertificateIssued:
    """What the renewal authority signed, as the journal has it."""
    leaf = renewed.certificate
    return CertificateIssued(
        subject=who.name,
        role=who.role,
        serial=renewed.serial,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        issuer="renewal",
        key_sha256=renewed.key,
    )


def add(app: FastAPI, host: HostConfig, tail: Tail, places: Places) -> None:
    """Give the app the endpoint."""
    renewals = Renewals(host, tail, places.renewal, places.authority)

    @app.post(PATH)
    async def renew(
        csr: Annotated[str, Body(embed=True, max_length=8192)],
        x_edgefl_certificate: Annotated[str, Header(max_length=8192)],
    ) -> dict[str, Any]:
        """The successor of the certificate that the caller came in with, for the key of its request."""
        renewed = await renewals.renew(caller(), x_edgefl_certificate, csr)
        return {"chain": renewed.chain.decode(), "not_after": renewed.certificate.not_valid_after_utc.isoformat()}


def _current(who: Caller, certificate: str) -> x509.Certificate:
    """The caller's own certificate, as the gate handed it on."""
    try:
        current = x509.load_der_x509_certificate(base64.b64decode(certificate, validate=True))
    except (ValueError, binascii.Error) as error:
        raise CsrRefused(f"{who.name} came with no certificate that can be read") from error
    if subject(current)[:2] != (who.name, who.role):
        raise CsrRefused(f"{who.name} as {who.role} came with the certificate of {subject(current)[0]}")
    return current
