"""What is said of devices that come in by a token: given out, used once, refused. A token itself never stands here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgefl.events.body import Body

MOST_S = 24 * 3600
"""Longest life of a token."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class EnrolmentOpened(Body):
    """An operator gave out a token, by which one device may have one key certified until `valid_s` after this event.

    addresses: the device's own, for its certificate. leaf_hours: the certificate's life. An older token of the device ends.
    """

    type: Literal["enrolment_opened"] = "enrolment_opened"
    who: Annotated[str, Field(max_length=200)] = ""
    subject: Annotated[str, Field(max_length=64)]
    addresses: Annotated[list[Annotated[str, Field(max_length=45)]], Field(max_length=8)] = Field(default_factory=list)
    token_sha256: Sha256
    valid_s: Annotated[int, Field(ge=60, le=MOST_S)]
    leaf_hours: Annotated[int, Field(ge=1)] = 24
    why: str = ""


class EnrolmentUsed(Body):
    """A device came in by its token, which ends with that. chain: the certificate that it got, PEM: it may ask for it again."""

    type: Literal["enrolment_used"] = "enrolment_used"
    subject: str
    source: str
    token_sha256: Sha256
    serial: str
    key_sha256: Sha256
    chain: str


class EnrolmentRefused(Body):
    """Somebody wanted to come in as `subject`, in their own words, and got nothing."""

    type: Literal["enrolment_refused"] = "enrolment_refused"
    subject: str
    source: str
    reason: str
