"""When a certificate is renewed: long before its end, so that a device that is away for a while still has one."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

RENEWED_AFTER = 2 / 3
"""Share of its life after which a certificate is renewed."""


def renewal(leaf: x509.Certificate) -> datetime:
    """From when on a certificate is renewed."""
    return leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) * RENEWED_AFTER
