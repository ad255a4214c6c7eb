"""Enrolment tokens: 160 random bits that may be read out over a telephone, and of which nobody keeps more than the hash."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final

from edgefl.errors import EdgeflError, ExitCode

_BYTES: Final = 20
_FORM = re.compile(r"[A-Z2-7]{32}")


class TokenMalformed(EdgeflError):
    """What was given cannot be a token."""

    exit_code = ExitCode.USAGE


def make() -> str:
    """A token, in groups of four letters and digits (base32, RFC 4648: neither 0 nor 1)."""
    text = base64.b32encode(secrets.token_bytes(_BYTES)).decode()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def digest(token: str) -> str:
    """SHA-256 of a token, in hex, however it is spaced and in whichever case. Raises TokenMalformed, which does not repeat it."""
    text = re.sub(r"[\s-]", "", token).upper()
    if not _FORM.fullmatch(text):
        raise TokenMalformed(
            "that is no enrolment token: it has 32 letters and digits", hint="edgefl enrol token DEVICE makes one"
        )
    return hashlib.sha256(text.encode()).hexdigest()
