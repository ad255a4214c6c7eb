"""Whether a device that has no certificate could come in by a token, by what the coordinator's journal says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from edgefl.events.enrolment import EnrolmentOpened, EnrolmentRefused, EnrolmentUsed
from edgefl.events.schema import Event
from edgefl.fleet.finding import Finding
from edgefl.layout import ENROL

KINDS = ("enrolment_opened", "enrolment_used", "enrolment_refused")
"""The events that say it."""
Heard = Callable[[str], Awaitable[Sequence[Event]]]
"""Asks for those of a device, the newest first."""


def judge(name: str, *, is_certified: bool, heard: Sequence[Event], now: datetime) -> Finding:
    """Whether a token stands between the device and its certificate. heard: the newest first. now: the operator's clock."""
    if is_certified:
        return Finding(name, "token", "good", "not needed: it has its certificate")
    refused: EnrolmentRefused | None = None
    for event in heard:
        match event.body:
            case EnrolmentRefused() as body:
                refused = refused or body
            case EnrolmentUsed() as body:
                if refused is not None:
                    return _refused(name, refused)
                return Finding(name, "token", "skipped", f"its last was used from {body.source}, {event.at:%Y-%m-%d %H:%M} UTC")
            case EnrolmentOpened() as body:
                return _unused(name, event.at + timedelta(seconds=body.valid_s), refused, now)
    return Finding(name, "token", "skipped", "none was given out; edgefl up certifies it over SSH")


def _unused(name: str, ends: datetime, refused: EnrolmentRefused | None, now: datetime) -> Finding:
    """What kept the newest token from being used so far."""
    if refused is not None:
        return _refused(name, refused)
    if now >= ends:
        return Finding(name, "token", "bad", f"its token ended at {ends:%Y-%m-%d %H:%M} UTC and was not used", _fix(name))
    return Finding(name, "token", "bad", f"its token counts until {ends:%H:%M} UTC and was not used yet", f"on {name}: {ENROL}")


def _refused(name: str, body: EnrolmentRefused) -> Finding:
    return Finding(name, "token", "bad", f"its enrolment was refused, from {body.source}: {body.reason}", _fix(name))


def _fix(name: str) -> str:
    return f"edgefl enrol token {name}; or edgefl up"
