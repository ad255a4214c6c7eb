"""The events that an audit asks for, as the feed tells them; what was before that lies in the archive."""

from __future__ import annotations

from collections import deque

from edgefl.events.schema import (
    AuditFinished,
    CertificateIssued,
    CertificateRefused,
    CertificateRevoked,
    DeviceJudged,
    EnrolmentOpened,
    EnrolmentRefused,
    EnrolmentUsed,
    Event,
    IsolationDrift,
    IsolationProven,
    OperatorAction,
    PrivacyRefused,
    RunFinished,
    RunStarted,
    StartChosen,
)

AUDITED = (
    OperatorAction,
    StartChosen,
    AuditFinished,
    DeviceJudged,
    PrivacyRefused,
    CertificateIssued,
    CertificateRefused,
    CertificateRevoked,
    EnrolmentOpened,
    EnrolmentUsed,
    EnrolmentRefused,
    IsolationDrift,
    IsolationProven,
    RunStarted,
    RunFinished,
)
KINDS: tuple[str, ...] = tuple(body.model_fields["type"].default for body in AUDITED)
MOST_EVENTS = 5000
"""Events that are held; of more, the oldest go."""


class Diary:
    """What the feed told of these kinds, in order.

    since: the seq after which it has heard every event; what is at or before it must be asked for. noted: how many there were.
    """

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self.since = 0
        self.noted = 0
        self.events: deque[Event] = deque(maxlen=most)

    @property
    def is_whole(self) -> bool:
        """Whether none of them had to go."""
        return self.noted == len(self.events)

    def begin(self, since: int) -> None:
        """The feed told everything up to this seq at once."""
        self.since, self.noted = since, 0
        self.events.clear()

    def note(self, event: Event) -> None:
        """The feed told an event."""
        if isinstance(event.body, AUDITED):
            self.noted += 1
            self.events.append(event)
