"""When a certificate is renewed: long before its end, so that a device that is away for a while still has one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from cryptography import x509

if TYPE_CHECKING:
    from edgefl.site.model import Certificates

RENEWED_AFTER = 2 / 3
"""Share of its life after which a certificate is renewed."""
OVERDUE_AFTER = 3 / 4
"""Share of its life after which a certificate ought to have been renewed."""
Standing = Literal["valid", "near expiry", "expired", "revoked"]
"""What a certificate is worth; near its expiry it is valid still, but was not renewed when it should have been."""


def days(role: str, lives: Certificates) -> int | None:
    """How long a certificate of this role serves, where the operator alone renews it; None for what lives for `leaf_hours`."""
    watching = dict.fromkeys(("scraper", "exporter", "metrics"), lives.watching_days)
    return {"signer": lives.signer_days, "renewal": lives.renewal_days, **watching}.get(role)


def renewal(leaf: x509.Certificate) -> datetime:
    """From when on a certificate is renewed."""
    return leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) * RENEWED_AFTER


def standing(begins: datetime, ends: datetime, now: datetime) -> Standing:
    """What a certificate is worth that nobody revoked."""
    if now >= ends:
        return "expired"
    return "near expiry" if now > begins + (ends - begins) * OVERDUE_AFTER else "valid"
