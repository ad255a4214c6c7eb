"""A device without a certificate that serves comes in here by a token that an operator gave out for it, once.

The gate lets it this far without a certificate, says where it comes from, and lets it nowhere else. What counts is the journal:
which token was given out for whom, by the coordinator's clock, and what came of it. A certificate stands there before it leaves,
so that an answer that was lost is given again to the same key, and to no other.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cryptography import x509
from fastapi import Body, FastAPI

from edgefl.errors import EdgeflError
from edgefl.events.enrolment import MOST_S, EnrolmentOpened, EnrolmentRefused, EnrolmentUsed
from edgefl.events.schema import CertificateRevoked, Event
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.monitor.access import Caller, caller
from edgefl.monitor.certified import Certified
from edgefl.monitor.errors import Refused
from edgefl.monitor.renewals import admit, issued
from edgefl.monitor.tail import Tail
from edgefl.pki import request, tokens
from edgefl.pki.enrol import PATH
from edgefl.pki.errors import CsrRefused
from edgefl.pki.renewal import RenewalAuthority, Renewed

MOST_REFUSALS_AN_HOUR = 60
"""Refusals that the journal gets: whoever reaches the gate can cause them, and must not fill it."""
_KINDS = ("enrolment_opened", "enrolment_used", "certificate_revoked")
_PAGE = 500
_UNKNOWN = "no token that counts now is like the one that was sent"

log = logging.getLogger("edgefl")


class EnrolmentDenied(Refused):
    """Whoever asked does not come in."""

    http_status: ClassVar[int] = 403


@dataclass(frozen=True, slots=True)
class Grant:
    """A token that was given out, until when it counts, and what it was used for."""

    opened: EnrolmentOpened
    ends: datetime
    used: EnrolmentUsed | None = None


def grants(events: Iterable[Event]) -> Mapping[str, Grant]:
    """The token of each device after these events: a newer one takes an older one's place, a revocation takes it away."""
    found: dict[str, Grant] = {}
    for event in events:
        match event.body:
            case EnrolmentOpened() as body:
                found[body.subject] = Grant(body, event.at + timedelta(seconds=body.valid_s))
            case EnrolmentUsed() as body:
                grant = found.get(body.subject)
                if grant is not None and grant.opened.token_sha256 == body.token_sha256:
                    found[body.subject] = replace(grant, used=body)
            case CertificateRevoked() as body:
                found.pop(body.subject, None)
    return found


class Enrolments:
    """Who may come in. directory: the renewal authority's; anchors: the host's ca.crt."""

    def __init__(
        self,
        host: HostConfig,
        tail: Tail,
        directory: Path,
        anchors: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._host, self._tail, self._directory, self._anchors, self._now = host, tail, directory, anchors, now
        self._certified = Certified(tail.journal)
        self._noted: deque[datetime] = deque()
        self._one_at_a_time = asyncio.Lock()

    async def enrol(self, source: str, token: str, csr: str) -> EnrolmentUsed:
        """The certificate for the request's key, once the journal has it. source: where the request comes from.

        Raises EnrolmentDenied, and PkiError where this coordinator can certify nothing.
        """
        async with self._one_at_a_time:
            await self._tail.catch_up()
            try:
                grant = await asyncio.to_thread(self._grant, token)
                admit(self._host, self._tail.state, Caller(grant.opened.subject, "device"))
                return await self._given(grant, source, csr)
            except (CsrRefused, tokens.TokenMalformed) as error:
                await self._note(source, csr, error)
                raise EnrolmentDenied(error.what, hint=error.hint) from error

    def _grant(self, token: str) -> Grant:
        """The grant of this token. Raises CsrRefused where there is none, or it is over, and TokenMalformed."""
        digest, now = tokens.digest(token), self._now()
        held = [one for one in self._grants(now).values() if hmac.compare_digest(one.opened.token_sha256, digest)]
        if not held:
            raise CsrRefused(_UNKNOWN, hint="edgefl enrol token DEVICE")
        if now >= held[0].ends:
            name = held[0].opened.subject
            raise CsrRefused(f"the token of {name} ended at {held[0].ends:%H:%M} UTC", hint=f"edgefl enrol token {name}")
        return held[0]

    def _grants(self, now: datetime) -> Mapping[str, Grant]:
        """By what the journal says of the time in which a token can have been given out that still counts."""
        events: list[Event] = []
        oldest, before = now - timedelta(seconds=2 * MOST_S), 0
        while page := self._tail.journal.newest(_KINDS, before=before, size=_PAGE):
            events += map(Event.model_validate, page)
            before = events[-1].seq
            if events[-1].at < oldest:
                break
        return grants(reversed(events))

    async def _given(self, grant: Grant, source: str, csr: str) -> EnrolmentUsed:
        """What was given to this key before, or a certificate now."""
        name = grant.opened.subject
        if grant.used is not None:
            if request.key_of(csr.encode()) == grant.used.key_sha256:
                return grant.used
            raise CsrRefused(f"the token of {name} was used for another key", hint=f"edgefl enrol token {name}")
        renewed = await asyncio.to_thread(self._signed, grant.opened, csr.encode())
        used = EnrolmentUsed(
            subject=name,
            source=source,
            token_sha256=grant.opened.token_sha256,
            serial=renewed.serial,
            key_sha256=renewed.key,
            chain=renewed.chain.decode(),
        )
        bodies = [issued(Caller(name, "device"), renewed), used]
        await asyncio.to_thread(self._tail.journal.append_all, bodies)
        await self._tail.catch_up()
        return used

    def _signed(self, opened: EnrolmentOpened, csr: bytes) -> Renewed:
        authority = RenewalAuthority.load(self._directory, self._anchors)
        self._certified.learn()
        life = timedelta(hours=opened.leaf_hours)
        used = self._certified.keys
        return authority.enrol(csr, name=opened.subject, addresses=opened.addresses, life=life, used=used)

    async def _note(self, source: str, csr: str, error: EdgeflError) -> None:
        """Have the refusal in the journal; of very many, only the first."""
        claimed, now = request.claimed(csr.encode()), self._now()
        log.warning("no enrolment for %r from %s: %s", claimed, source, error.what)
        while self._noted and now - self._noted[0] > timedelta(hours=1):
            self._noted.popleft()
        if len(self._noted) < MOST_REFUSALS_AN_HOUR:
            self._noted.append(now)
            refused = EnrolmentRefused(subject=claimed, source=source, reason=error.what[:500])
            await asyncio.to_thread(self._tail.journal.append, refused)
            await self._tail.catch_up()


def add(app: FastAPI, host: HostConfig, tail: Tail, places: Places) -> None:
    """Give the app the endpoint."""
    enrolments = Enrolments(host, tail, places.renewal, places.authority)

    @app.post(PATH)
    async def enrol(
        token: Annotated[str, Body(embed=True, max_length=128)], csr: Annotated[str, Body(embed=True, max_length=8192)]
    ) -> dict[str, Any]:
        """A device's certificate, for the key of its request, by its token."""
        used = await enrolments.enrol(caller().name, token, csr)
        ends = x509.load_pem_x509_certificate(used.chain.encode()).not_valid_after_utc
        return {"name": used.subject, "chain": used.chain, "not_after": ends.isoformat()}
